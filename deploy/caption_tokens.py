"""Tokenizers of text towers as the JSON of the `tokenizers` library, which other programs can read."""

import json
from typing import Any

from encode_once.cache import DataError
from encode_once.extract.encoders.clip import ClipCaptions
from encode_once.extract.encoders.transformers_models import TransformerCaptions


def tokenizer_json(tower: ClipCaptions | TransformerCaptions) -> str:
    """The tokenizer of a loaded tower, which cuts captions as the tower does.

    CLIP's own does not replace HTML entities, broken Unicode and letters of unusual width, as open_clip does
    with ftfy before it tokenizes.

    Raises:
        DataError: its tokenizer has no such form; the message is the reason only.
    """
    if isinstance(tower, ClipCaptions):
        return _byte_pairs(tower.tokenizer)
    backend = getattr(tower.tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise DataError("its tokenizer is not one of the tokenizers library")
    text: str = backend.to_str()
    truncation = {
        "direction": "Right", "max_length": tower.context, "strategy": "LongestFirst", "stride": 0
    }  # fmt: skip
    return json.dumps(json.loads(text) | {"truncation": truncation, "padding": None}, ensure_ascii=False)


def _byte_pairs(tokenizer: Any) -> str:
    """open_clip's tokenizer for CLIP, which is written in Python."""
    from open_clip.tokenizer import SimpleTokenizer
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    if type(tokenizer) is not SimpleTokenizer or tokenizer.reduction_fn is not None:
        raise DataError("its tokenizer is not CLIP's")
    start, end = "<start_of_text>", "<end_of_text>"
    merges = [*tokenizer.bpe_ranks]
    pairs = Tokenizer(models.BPE(tokenizer.encoder, merges, end_of_word_suffix="</w>"))
    replaced = {"[\u02bc\u2018-\u201b]": "'", "[\u201c-\u201f]": '"', r"\s+": " "}  # as ftfy and open_clip do
    steps = [normalizers.Replace(Regex(pattern), text) for pattern, text in replaced.items()]
    pairs.normalizer = normalizers.Sequence(
        [normalizers.NFC(), *steps, normalizers.Strip(), normalizers.Lowercase()]
    )
    words = pre_tokenizers.Split(Regex(tokenizer.pat.pattern), "removed", invert=True)
    pairs.pre_tokenizer = pre_tokenizers.Sequence(
        [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    special = [(start, tokenizer.sot_token_id), (end, tokenizer.eot_token_id)]
    pairs.post_processor = processors.TemplateProcessing(single=f"{start} $A {end}", special_tokens=special)
    context = tokenizer.context_length
    pairs.enable_truncation(context)
    pairs.enable_padding(length=context, pad_id=0, pad_token="!")  # noqa: S106 — it has the number 0
    text: str = pairs.to_str()
    return text
