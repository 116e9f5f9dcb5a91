"""How the page looks: calm, one column on a phone, nothing from other servers."""

from types import ModuleType
from typing import Any

from PIL import Image, ImageDraw

from glipkit.visualize import PALETTE, phrase_color

_SYSTEM = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_CODE = "ui-monospace, 'Cascadia Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace"

_CSS = """
:root, .dark { --font: FONT; --font-mono: CODE; }
.gradio-container { max-width: 1180px !important; margin: 0 auto; }
footer { display: none !important; }
.gk-head { padding: 8px 0 4px; }
.gk-head h1 { font-size: 1.7rem; font-weight: 650; letter-spacing: -.01em; margin: 0 0 4px; }
.gk-head p { margin: 0; color: var(--body-text-color-subdued); max-width: 68ch; line-height: 1.5; }
.gk-head p + p { margin-top: 6px; font-size: .9rem; }

.gk-empty { display: grid; place-items: center; min-height: 300px; padding: 24px;
  border: 1px dashed var(--border-color-primary); border-radius: 10px;
  color: var(--body-text-color-subdued); text-align: center; }
.gk-empty p { max-width: 38ch; line-height: 1.6; margin: 0; }
.gk-figure { margin: 0; }
.gk-figure img { display: block; width: 100%; height: auto; max-height: 76vh; object-fit: contain;
  border-radius: 8px; background: var(--background-fill-secondary); margin: 0; }
.gk-figure figcaption { display: flex; gap: 12px; align-items: baseline; justify-content: flex-end;
  padding-top: 6px; font-size: .85rem; color: var(--body-text-color-subdued); }
.gk-download { color: var(--link-text-color); text-decoration: underline; }

.gk-status { display: flex; flex-wrap: wrap; gap: 4px 14px; margin: 0; font-size: .9rem;
  color: var(--body-text-color-subdued); }
.gk-status b { color: var(--body-text-color); font-weight: 600; }
.gk-read h3 { font-size: .85rem; font-weight: 600; margin: 0 0 4px;
  color: var(--body-text-color-subdued); }
.gk-caption { margin: 0 0 4px; line-height: 1.9; overflow-wrap: anywhere; }
.gk-caption mark { color: inherit; padding: 1px 3px; border-radius: 4px 4px 0 0;
  background: rgb(var(--gk) / .2); border-bottom: 3px solid rgb(var(--gk)); }
.gk-note { margin: 0 0 4px; font-size: .85rem; color: var(--body-text-color-subdued); }
.gk-tally { list-style: none; margin: 0; padding: 0; display: flex; flex-wrap: wrap;
  gap: 6px 20px; font-size: .95rem; }
.gk-tally li { display: flex; align-items: center; gap: 7px; margin: 0; overflow-wrap: anywhere; }
.gk-tally small { color: var(--body-text-color-subdued); }
.gk-none > span:nth-child(2) { color: var(--body-text-color-subdued); }
.gk-chip { width: 14px; height: 14px; border-radius: 4px; background: rgb(var(--gk)); flex: none;
  box-shadow: inset 0 0 0 1px rgb(0 0 0 / .25); }

.gk-slider { padding: 6px 12px !important; }
.gk-slider .wrap { display: grid; grid-template-columns: minmax(0, 11rem) 1fr auto;
  align-items: center; gap: 4px 14px; }
.gk-slider .head { display: contents; }
.gk-slider .head > label { order: 0; margin: 0; }
.gk-slider .slider_input_container { order: 1; }
.gk-slider .tab-like-container { order: 2; }
.gk-slider .min_value, .gk-slider .max_value { display: none; }
.gk-slider input[type=range] { min-width: 0; }

.gk-scale { display: grid; grid-template-columns: auto 1fr auto; gap: 4px 8px; align-items: center;
  font-size: .85rem; color: var(--body-text-color-subdued); }
.gk-scale i { height: 10px; border-radius: 5px; }
.gk-scale p { grid-column: 1 / -1; margin: 0; }
#gk-tokens .wrap { gap: 6px; max-height: 220px; overflow-y: auto; }
#gk-tokens label { padding: 4px 10px; border-bottom: 3px solid rgb(var(--gk, 128 128 128 / .35)); }
#gk-tokens label.selected { background: rgb(var(--gk, 128 128 128) / .3);
  color: var(--body-text-color); }
#gk-tokens label input { position: absolute; opacity: 0; width: 0; height: 0; }
#gk-tokens label:focus-within, .gk-example:focus-visible, .gk-download:focus-visible {
  outline: 2px solid var(--color-accent); outline-offset: 2px; }

.gk-examples { display: grid; gap: 8px;
  grid-template-columns: repeat(auto-fill, minmax(92px, 1fr)); }
.gk-example { display: flex; flex-direction: column; gap: 4px; padding: 6px; text-align: left;
  cursor: pointer; border: 1px solid var(--border-color-primary); border-radius: 8px;
  background: var(--background-fill-primary); color: var(--body-text-color-subdued);
  font-size: .78rem; line-height: 1.3; }
.gk-example:hover { border-color: var(--color-accent); color: var(--body-text-color); }
.gk-example img { width: 100%; aspect-ratio: 1; object-fit: cover; border-radius: 4px; margin: 0; }

@media (max-width: 640px) {
  .gradio-container { padding: 10px !important; }
  .gk-slider .wrap { grid-template-columns: 1fr auto; }
  .gk-slider .slider_input_container { order: 3; grid-column: 1 / -1; }
  .gk-empty { min-height: 150px; }
  .gk-slider input[type=range] { height: 28px; }
}
@media (prefers-reduced-motion: reduce) {
  * { animation: none !important; transition: none !important; }
}
"""


def css() -> str:
    """The page's own style sheet; the sliders have the colours of their phrases."""
    sliders = [
        f".gk-phrase-{index} {{ --slider-color: rgb{phrase_color(index)}; }}"
        for index in range(len(PALETTE))
    ]
    return _CSS.replace("FONT", _SYSTEM).replace("CODE", _CODE) + "\n".join(sliders)


def theme(gr: ModuleType) -> Any:
    """Gradio's plain theme with the fonts of the visitor's own machine."""
    return gr.themes.Base(
        primary_hue="blue",
        neutral_hue="slate",
        radius_size="md",
        font=["sans-serif"],  # the style sheet names the fonts; a list here would be downloaded
        font_mono=["monospace"],
    ).set(
        block_shadow="none",
        block_border_width="1px",
        block_label_background_fill="transparent",
        block_label_border_width="0px",
        block_title_text_weight="500",
        button_large_text_weight="600",
        body_background_fill="*neutral_50",
    )


def icon(size: int = 64) -> Image.Image:
    """What stands in the browser's tab: a few boxes."""
    image = Image.new("RGBA", (size, size), (0, 0, 0, 0))
    pen = ImageDraw.Draw(image)
    unit = size // 16
    pen.rectangle((2 * unit, 5 * unit, 9 * unit, 14 * unit), outline=PALETTE[4], width=2 * unit)
    pen.rectangle((6 * unit, 2 * unit, 14 * unit, 9 * unit), outline=PALETTE[0], width=2 * unit)
    return image
