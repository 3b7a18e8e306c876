"""Common names of columns, and what they mean."""

import re
import string

# Common names of columns, in lower case and without blanks, "_" and "-".
IDS = "imageid id key sampleid uid uuid guid photoid pictureid"
IMAGES = (
    "image images img picture photo imagepath imgpath path filename filepath file imagefile imagefilename "
    "imagename imageindex jpg jpeg png"
)
CAPTIONS = "caption captions text texts sentence sentences description descriptions"
UNKNOWN_LABELS = "unknownlabels uncertainlabels"
LABELS = "label labels tag tags class classes category categories"
# Names that also mean other things: they are taken if there is no column of a name above, and the cells fit.
PERHAPS_CAPTIONS = "comment comments alt alttext title prompt raw utterance"
PERHAPS_LABELS = (
    "genre genres target targets findinglabel findinglabels finding findings labelname labelnames classname "
    "classnames topic topics keyword keywords diagnosis diagnoses attribute attributes concept concepts "
    "annotation annotations emotion emotions species object objects choice choices hashtag hashtags "
    "tagstring labelstring shapes style styles mood moods ingredient ingredients disease diseases"
)
# A single column whose name ends so is taken if there is none above, and its cells fit.
CAPTION_ENDS = ("caption", "text", "description", "title", "sentence")
LABEL_ENDS = (
    "label",
    "labels",
    "tag",
    "tags",
    "category",
    "categories",
    "class",
    "classes",
    "genre",
    "genres",
)
# Columns that describe a sample, and are no class even if they hold 0 and 1.
ABOUT_SAMPLES = (
    "split splits fold set subset partition istrain istest isvalid isval train test val valid width height "
    "size age sex gender url source license date year month site device patientid patient viewposition index "
    "idx unnamed:0 frontal/lateral ap/pa confidence"
)


def kind_of(name: str) -> str | None:
    """What a column of this name holds: "image", "caption" or "labels"; None if the name is not known."""
    kinds = {"image": f"{IMAGES} {IDS}", "labels": LABELS, "caption": CAPTIONS}
    return next((kind for kind, common in kinds.items() if plain_name(name) in common.split()), None)


def is_caption(name: str) -> bool:
    """Whether a column of this name holds captions: caption, caption 2, text …"""
    return plain_name(name).rstrip(string.digits) in CAPTIONS.split()


def plain_name(name: str) -> str:
    """A column's name for comparisons: without case, blanks, "_" and "-"."""
    return re.sub(r"[\s_-]", "", name.casefold())
