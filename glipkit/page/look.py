"""How the page looks: calm, one column on a phone, nothing from other servers."""

from types import ModuleType
from typing import Any

from PIL import Image, ImageDraw

from glipkit.visualize import PALETTE, phrase_color

_SYSTEM = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_CODE = "ui-monospace, 'Cascadia Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace"

# Around the page: gradio lets the style sheet of a page reach only what is inside.
_FRAME = """
:root, .dark { --font: FONT; --font-mono: CODE; }
.dark { --color-accent: var(--primary-400); }
.gradio-container { width: 100%; max-width: 1240px !important; margin: 0 auto;
  overflow: clip !important; }
.gradio-container > .main.main { padding: 28px 32px; }
@media (max-width: 640px) { .gradio-container > .main.main { padding: 14px 14px 40px; } }
@media (prefers-reduced-motion: reduce) {
  * { animation: none !important; transition: none !important; }
}
"""

_CSS = """
.gk .html-container { padding: 0; }
.gk { color: var(--body-text-color); line-height: 1.5; }
.block.gk:not(:has(.gk > *)) { display: none; }
/* "Error" over the picture: what went wrong is said beside it, and is advice most of the time. */
.gk [data-testid="status-tracker"]:has(> .error) { display: none; }
.tabitem { padding: 2px 0 0 !important; }

.gk-head h1 { font-size: 1.7rem; font-weight: 650; letter-spacing: -.01em; margin: 0 0 4px; }
.gk-head h1 span { font-weight: 400; color: var(--body-text-color-subdued); margin-left: .35em; }
.gk-head p { margin: 0 0 4px; color: var(--body-text-color-subdued); max-width: 76ch; }

.gk-empty { display: grid; place-items: center; min-height: 360px; padding: 24px;
  border: 1px dashed var(--border-color-primary); border-radius: 10px; text-align: center;
  color: var(--body-text-color-subdued); background: var(--block-background-fill); }
.gk-empty p { max-width: 40ch; line-height: 1.6; margin: 0; }
/* The picture stays in sight while the sliders beneath it are moved. */
#gk-figure:has(.gk-figure) { position: sticky; top: 0; z-index: 2; padding-top: 8px;
  background: var(--body-background-fill); overflow: visible; }
.gk-figure { margin: 0; }
.gk-figure img { display: block; width: 100%; height: auto; max-height: 60vh; margin: 0;
  object-fit: contain; border-radius: 8px; }
.gk-figure figcaption { display: flex; flex-wrap: wrap; gap: 2px 12px; justify-content: flex-end;
  padding-top: 6px; font-size: .85rem; color: var(--body-text-color-subdued); }
.gk-download { color: var(--link-text-color); text-decoration: underline; }

.gk-status { display: flex; flex-wrap: wrap; gap: 2px 14px; margin: 0; font-size: .9rem;
  color: var(--body-text-color-subdued); }
.gk-status em { flex-basis: 100%; font-style: normal; }
.gk-status b { color: var(--body-text-color); font-weight: 600; }
.gk-title { font-size: .9rem; font-weight: 500; margin: 0 0 4px;
  color: var(--body-text-color-subdued); }
.gk-caption { margin: 0 0 4px; line-height: 1.9; overflow-wrap: anywhere; }
.gk-caption mark { color: inherit; padding: 1px 3px; border-radius: 4px 4px 0 0;
  background: rgb(var(--gk) / .2); border-bottom: 3px solid rgb(var(--gk)); }
.gk-note { margin: 0 0 4px; font-size: .85rem; color: var(--body-text-color-subdued); }
.gk-tally { list-style: none; margin: 0; padding: 0; display: flex; flex-wrap: wrap;
  gap: 6px 20px; }
.gk-tally li { display: flex; align-items: center; gap: 7px; margin: 0; overflow-wrap: anywhere; }
.gk-tally small { color: var(--body-text-color-subdued); font-size: .85rem; }
.gk-tally b, .gk-tally small { flex: none; } /* the name alone takes several lines */
.gk-none > span:nth-child(2) { color: var(--body-text-color-subdued); }
.gk-chip { width: 14px; height: 14px; border-radius: 4px; background: rgb(var(--gk)); flex: none;
  box-shadow: inset 0 0 0 1px rgb(0 0 0 / .25); }

#gk-panel .form { border: none; background: none; gap: 0; box-shadow: none; }
.gk-slider { padding: 3px 2px !important; background: none !important; }
.gk-slider .wrap { display: grid; grid-template-columns: minmax(0, 11rem) 1fr auto;
  align-items: center; gap: 4px 14px; }
.gk-slider .head { display: contents; }
.gk-slider .head > label, .gk-slider .head > label * { margin: 0; overflow-wrap: anywhere; }
.gk-slider .slider_input_container { order: 1; }
.gk-slider .tab-like-container { order: 2; margin: 0; }
.gk-slider .min_value, .gk-slider .max_value { display: none; }
.gk-slider input[type=range] { min-width: 0; margin: 0; }
.dark .gk-slider input[type=range]::-webkit-slider-runnable-track {
  background: linear-gradient(to right, var(--slider-color) var(--range_progress),
    var(--neutral-600) var(--range_progress)); }
.dark .gk-slider input[type=range]::-moz-range-track { background: var(--neutral-600); }
.gk-slider input[type=range]:focus-visible { outline: 2px solid var(--color-accent);
  outline-offset: 4px; }

.gk-scale { display: grid; grid-template-columns: auto 1fr auto; gap: 4px 8px; align-items: center;
  margin-top: 8px; font-size: .9rem; color: var(--body-text-color-subdued); }
.gk-scale i { height: 10px; border-radius: 5px; }
.gk-scale p { grid-column: 1 / -1; margin: 0; }
#gk-token-style { display: none; }
#gk-tokens .wrap { gap: 6px; max-height: 190px; overflow-y: auto; padding: 3px; }
#gk-tokens label { padding: 3px 10px; color: var(--body-text-color);
  border-bottom: 3px solid rgb(var(--gk, 128 128 128 / .35)); }
#gk-tokens label.selected { background: rgb(var(--gk, 128 128 128) / .35); }
#gk-tokens label input { position: absolute; opacity: 0; width: 0; height: 0; }
#gk-tokens label span { margin: 0; }
#gk-tokens label:focus-within, .gk-example:focus-visible, .gk-download:focus-visible {
  outline: 2px solid var(--color-accent); outline-offset: 2px; }

.gk-examples { display: grid; gap: 10px; grid-template-columns: repeat(3, minmax(0, 1fr)); }
.gk-example { display: flex; flex-direction: column; gap: 6px; padding: 6px; text-align: left;
  cursor: pointer; border: 1px solid var(--border-color-primary); border-radius: 8px;
  background: var(--block-background-fill); color: var(--body-text-color-subdued);
  font: inherit; font-size: .82rem; line-height: 1.35; }
.gk-example:hover { border-color: var(--color-accent); color: var(--body-text-color); }
.gk-example img { width: 100%; aspect-ratio: 1; object-fit: cover; border-radius: 4px; margin: 0; }

@media (max-width: 640px) {
  .gk-head h1 { font-size: 1.4rem; }
  .gk-slider .wrap { grid-template-columns: 1fr auto; }
  .gk-slider .slider_input_container { order: 3; grid-column: 1 / -1; }
  .gk-slider input[type=range] { height: 26px; }
  .gk-empty { min-height: 130px; }
}
"""


def css() -> str:
    """The page's own style sheet; the sliders have the colours of their phrases."""
    sliders = [
        f".gk-phrase-{index} {{ --slider-color: rgb{phrase_color(index)}; }}"
        for index in range(len(PALETTE))
    ]
    return _CSS + "\n".join(sliders)


def head() -> str:
    """What goes into the page's head."""
    return f"<style>{_FRAME.replace('FONT', _SYSTEM).replace('CODE', _CODE)}</style>"


def theme(gr: ModuleType) -> Any:
    """Gradio's plain theme with the fonts of the visitor's own machine."""
    return gr.themes.Base(
        primary_hue="blue",
        neutral_hue="slate",
        radius_size="md",
        font=["sans-serif"],  # the style sheet names the fonts; a list here would be downloaded
        font_mono=["monospace"],
    ).set(
        body_background_fill="*neutral_50",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_label_background_fill="*background_fill_primary",
        block_label_background_fill_dark="*background_fill_primary",
        block_label_text_color="*neutral_600",
        block_label_text_color_dark="*neutral_300",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        input_placeholder_color="*neutral_500",
        color_accent="*primary_600",
        slider_color="*neutral_500",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_500",
        block_shadow="none",
    )


def icon(size: int = 64) -> Image.Image:
    """What stands in the browser's tab: a few boxes."""
    image = Image.new("RGBA", (size, size), (0, 0, 0, 0))
    pen = ImageDraw.Draw(image)
    unit = size // 16
    pen.rectangle((2 * unit, 5 * unit, 9 * unit, 14 * unit), outline=PALETTE[4], width=2 * unit)
    pen.rectangle((6 * unit, 2 * unit, 14 * unit, 9 * unit), outline=PALETTE[0], width=2 * unit)
    return image
