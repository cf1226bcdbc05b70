"""A page as a parser sees it."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "br", "hr", "img", "link", "input", "path", "use", "rect"}
ADDRESSES = ("src", "href", "srcset", "action", "data", "poster", "xlink:href")


@dataclass
class Reading(HTMLParser):
    """Tags, attributes, ids, addresses and text of a page; tags that were left open."""

    tags: list[str] = field(default_factory=list)
    attributes: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.append((tag, dict(attrs)))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        if "style" not in self.open[-1:]:
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())

    @property
    def ids(self) -> list[str]:
        return [value for _, attributes in self.attributes if (value := attributes.get("id")) is not None]

    def addresses(self) -> list[str]:
        return [str(a[name]) for _, a in self.attributes for name in ADDRESSES if name in a]


def read(html: str) -> Reading:
    """Parse a page."""
    reading = Reading()
    reading.feed(html)
    reading.close()
    return reading


def check_whole(reading: Reading) -> None:
    """Tags are closed, names are given once, and nothing comes from outside."""
    assert reading.wrong == []
    assert reading.open == []
    assert len(reading.ids) == len(set(reading.ids))
    assert all(address.startswith("#") for address in reading.addresses())
    assert "script" not in reading.tags
