"""Reading XML files of unknown origin: any declared encoding, with or without namespaces, no entities."""

import codecs
import re
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from tood.io.files import UnreadableError, read_bytes
from tood.io.text import decode_text

_LARGEST = 16 << 20  # bytes of an annotation; one of 2,000 objects has 0.5 MB
_DECLARED = re.compile(rb"<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([A-Za-z0-9._-]+)[\"']")
_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")


def read_xml(path: Path) -> Element:
    """The outermost element of an XML file; tags are without their namespaces.

    Raises UserError naming the file and the line where it breaks.
    """
    content = read_bytes(path, _LARGEST)
    text = _DECLARATION.sub("", _decoded(content, path)).lstrip()
    if not text:
        raise UnreadableError(f"{path}: is empty", "restore it or leave it out")
    before = _decoded(content, path).count("\n") - text.count("\n")
    try:
        tree: Element = fromstring(text, forbid_dtd=True)
    except DefusedXmlException as error:
        raise UnreadableError(
            f"{path}: has a DOCTYPE, which can stand for any amount of text or for other files", "leave it out"
        ) from error
    except ParseError as error:
        line = error.position[0] + before
        problem = str(error).partition(":")[0]
        raise UnreadableError(f"{path}: is not a readable XML file ({problem} in line {line})", "restore it") from error
    except (LookupError, ValueError, RecursionError) as error:
        raise UnreadableError(f"{path}: is not a readable XML file ({error})", "restore it") from error
    for element in tree.iter():
        if isinstance(element.tag, str):
            element.tag = element.tag.rpartition("}")[2]
    return tree


def _decoded(content: bytes, path: Path) -> str:
    declared = _DECLARED.search(content[:300])
    if declared is None or content.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return decode_text(content, path)
    name = declared[1].decode("ascii")
    if name.lower().startswith(("utf-16", "utf16", "utf-32", "ucs-")):  # not true, since the declaration is of bytes
        return decode_text(content, path)
    try:
        return content.decode(codecs.lookup(name).name)
    except LookupError as error:
        raise UnreadableError(f"{path}: declares the unknown encoding '{name}'", "save it as UTF-8") from error
    except (UnicodeError, TypeError) as error:
        raise UnreadableError(
            f"{path}: is not in the encoding '{name}' that it declares", "save it as UTF-8"
        ) from error
