"""Clean matplotlib's SVG so that several drawings live in one page, in its colours and its font."""

import hashlib
import re
from collections.abc import Mapping
from xml.etree import ElementTree

from trueup.report.text import printable

_SVG = "http://www.w3.org/2000/svg"
_XLINK_HREF = "{http://www.w3.org/1999/xlink}href"
_LONG_DECIMAL = re.compile(r"-?\d+\.\d{3,}")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_FONT_FAMILY = re.compile(r"font-family:[^;]*;?\s*")
_ROOT_STYLE = "font-family: system-ui, sans-serif; stroke-linejoin: round; stroke-linecap: butt"
_UNSAFE_TAGS = frozenset({"script", "foreignObject", "image", "iframe", "a", "style", "animate", "set"})

ElementTree.register_namespace("", _SVG)


def clean(raw: str, *, colours: Mapping[str, str]) -> str:
    """One drawing as an `<svg>` element: no prolog, metadata, fixed size or font; ids that only it uses.

    Args:
        raw: What matplotlib wrote.
        colours: What each colour of the drawing (lower-case hex) becomes, such as `var(--series-1, #0b6bb5)`.
    """
    root = ElementTree.fromstring(raw)
    _drop(root, {"metadata", "style"})
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    used = _references(root)
    for element in root.iter():
        element.text = (element.text or "").strip() or None
        element.tail = None
        _tidy(element, used=used, colours=colours)
    root.set("style", _ROOT_STYLE)
    prefix = hashlib.sha256(ElementTree.tostring(root)).hexdigest()[:8]
    _prefix_ids(root, f"d{prefix}-")
    return ElementTree.tostring(root, encoding="unicode")


def inline(svg: str, *, prefix: str, title: str, description: str) -> str:
    """A cleaned drawing with a title, a description and page-wide unique ids, ready to stand in HTML.

    Raises:
        ValueError: The drawing holds scripts, links, images, styles or references to anything outside itself.
    """
    root = ElementTree.fromstring(svg)
    _check_harmless(root)
    _prefix_ids(root, prefix)
    root.set("role", "img")
    root.set("aria-labelledby", f"{prefix}title {prefix}description")
    for tag, name, words in (("desc", "description", description), ("title", "title", title)):
        node = ElementTree.Element(f"{{{_SVG}}}{tag}", {"id": prefix + name})
        node.text = printable(words)
        root.insert(0, node)
    return ElementTree.tostring(root, encoding="unicode")


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _drop(root: ElementTree.Element, tags: set[str]) -> None:
    for parent in root.iter():
        for child in list(parent):
            if _tag(child) in tags:
                parent.remove(child)


def _references(root: ElementTree.Element) -> set[str]:
    used: set[str] = set()
    for element in root.iter():
        for name, value in element.attrib.items():
            if name in (_XLINK_HREF, "href"):
                used.add(value.removeprefix("#"))
            used.update(_REFERENCE.findall(value))
    return used


def _tidy(element: ElementTree.Element, *, used: set[str], colours: Mapping[str, str]) -> None:
    if element.get("id") not in used:
        element.attrib.pop("id", None)
    if _XLINK_HREF in element.attrib:
        element.set("href", element.attrib.pop(_XLINK_HREF))
    for name, value in list(element.attrib.items()):
        if name in ("d", "x", "y", "width", "height", "transform", "viewBox"):
            element.set(name, " ".join(_LONG_DECIMAL.sub(_two_digits, value).split()))
        elif name == "style":
            value = _FONT_FAMILY.sub("", value)
            for colour, meaning in colours.items():
                value = value.replace(colour, meaning)
            element.set(name, value.strip())


def _two_digits(match: re.Match[str]) -> str:
    return f"{float(match.group()):.2f}".rstrip("0").rstrip(".")


def _prefix_ids(root: ElementTree.Element, prefix: str) -> None:
    for element in root.iter():
        for name, value in list(element.attrib.items()):
            if name == "id":
                element.set(name, prefix + value)
            elif name == "href" and value.startswith("#"):
                element.set(name, f"#{prefix}{value[1:]}")
            elif "url(#" in value:
                element.set(name, _REFERENCE.sub(rf"url(#{prefix}\1)", value))


def _check_harmless(root: ElementTree.Element) -> None:
    for element in root.iter():
        if _tag(element) in _UNSAFE_TAGS:
            raise ValueError(f"a drawing must not hold <{_tag(element)}>; draw it with trueup.report.figures")
        for name, value in element.attrib.items():
            link = name.endswith("href") and not value.startswith("#")
            if link or "url(" in _REFERENCE.sub("", value) or name.lower().startswith("on"):
                raise ValueError(f"a drawing must refer to nothing outside itself, got {name}={value!r}")
