"""A drawn world to learn words in: pictures of shapes, and texts whose boxes are known exactly.

`python -m glipkit.shapeworld OUT` writes it in COCO and MDETR form, so that the ordinary loaders
read it. Everything is drawn here, from seeds; no picture, font or word list of anybody else's is
in it. Picture `index` of a split depends on (seed, split, index, size) alone.

What is true in it:

* An object has a colour (10), a shape (12), a size (small, medium, large), a texture (plain,
  striped, dotted, checkered). Sizes are the longer side of the upright shape over the side of the
  picture: `vocabulary.SIZE_RANGES`, with a gap of 1.4 times between classes. Small objects are
  plain. Colours vary in HSV within `vocabulary.HSV`, with gaps between them.
* A box is the full extent of what was painted of the object, its border included, cut to the
  picture: x, y, width and height count pixels covered by at least half. At least
  `scenes.VISIBLE_SHARE` of every object can be seen: the rest is under others or over the edge.
  Objects of one colour do not touch.
* A phrase of a text owns all objects that its words fit, unless a relation, a place or a
  superlative in the text decides. Scribbles, letters and odd shapes lie about unlabelled; texts
  that name a colour or a size without a shape are written only where none of those could be meant.
* A fifth of the (colour, shape) pairs (`vocabulary.HELD_OUT`) is in no training picture and in no
  training text, and as frequent as the others in val. Every concept has several words in training
  and others (`Concept.unseen`) that only the synonym files say.

Reading order: vocabulary, outlines, painting, colours, paints, backgrounds, distractors, scenes
(pictures); then phrases, relations, lessons, name_lists, captions, train_texts (texts); then world,
word_tests, records, writing (files).
"""
