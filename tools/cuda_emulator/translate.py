"""Rewrites CUDA C++ as C++ for the emulator, where macros do not suffice.

    python translate.py IN.cu OUT.cpp

- ``kernel<<<grid, block, bytes, stream>>>(arguments)``
- ``__shared__ float tile[32][33], sum;``
- ``extern __shared__ double buffer[];`` inside a function
- ``__launch_bounds__(threads)`` before a kernel's body, which then checks it

Line numbers do not change. Comments and literals are left alone.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

SPACES = re.compile(r"\s*")
NOT_CODE = re.compile(
    r"""//(?:\\\n|[^\n])*            # comments
      | /\*.*?\*/
      | R"(?P<mark>[^(\s]*)\(.*?\)(?P=mark)"
      | "(?:\\.|[^"\\\n])*"          # strings
      | (?<![0-9A-Fa-f])'(?:\\.|[^'\\\n])+'   # characters, but not the digit separators of 1'000
    """,
    re.DOTALL | re.VERBOSE,
)
ALIGNMENT = re.compile(r"(?:__align__|alignas)\s*\(")
SHARED = re.compile(r"\b(extern\s+)?__shared__\b")
BOUNDS = re.compile(r"\b__launch_bounds__\s*\(")
IDENTIFIER = re.compile(r"(?:::\s*)?[A-Za-z_]\w*(?:\s*::\s*[A-Za-z_]\w*)*\Z")
OPENING = {")": "(", "]": "[", "}": "{"}
CLOSING = {opening: closing for closing, opening in OPENING.items()}


class TranslationError(ValueError):
    """The source contains something that the translation does not understand."""


class Source:
    """A source text, and the same text with everything except code replaced by blanks."""

    def __init__(self, text: str, name: str) -> None:
        self.text = text
        self.name = name
        self.code = NOT_CODE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)

    def error(self, position: int, message: str) -> TranslationError:
        line = self.text.count("\n", 0, position) + 1
        return TranslationError(f"{self.name}:{line}: {message}")

    def closing(self, position: int) -> int:
        """Return the position of the bracket that closes the one at `position`."""
        stack: list[str] = []
        for i in range(position, len(self.code)):
            character = self.code[i]
            if character in CLOSING:
                stack.append(character)
            elif character in OPENING:
                if not stack or stack.pop() != OPENING[character]:
                    break
                if not stack:
                    return i
        raise self.error(position, f"this {self.code[position]} is not closed")

    def find_outside_brackets(self, wanted: str, start: int) -> int:
        """Find `wanted` from `start` on, outside brackets that are opened after `start`."""
        i = start
        while i < len(self.code):
            if self.code.startswith(wanted, i):
                return i
            if self.code[i] in OPENING:
                break
            i = self.closing(i) + 1 if self.code[i] in CLOSING else i + 1
        raise self.error(start, f"no {wanted} follows")

    def launched_kernel(self, end: int) -> int:
        """Find the start of the expression before `end`: a name with template arguments."""
        i = len(self.code[:end].rstrip())
        if self.code[i - 1 : i] == ">":
            i = self.opening_angle(i - 1)
        name = IDENTIFIER.search(self.code[:i].rstrip())
        if name is None:
            raise self.error(end, "no name of a kernel precedes <<<")
        return name.start()

    def opening_angle(self, position: int) -> int:
        """Return the position of the < that the > at `position` closes."""
        depth = 0
        i = position
        while i >= 0:
            character = self.code[i]
            if character in OPENING:
                i = self.opening(i)
            elif character == ">":
                depth += 1
            elif character == "<":
                depth -= 1
                if depth == 0:
                    return i
            elif character in ";{":
                break
            i -= 1
        raise self.error(position, "no < matches the > before <<<")

    def opening(self, position: int) -> int:
        """Return the position of the bracket that the one at `position` closes."""
        stack: list[str] = []
        for i in range(position, -1, -1):
            character = self.code[i]
            if character in OPENING:
                stack.append(OPENING[character])
            elif character in CLOSING and (not stack or stack.pop() != character):
                break
            if not stack:
                return i
        raise self.error(position, f"this {self.code[position]} was not opened")


Edit = tuple[int, int, str]  # from, to, replacement


def launches(source: Source) -> Iterator[Edit]:
    """Replace every ``kernel<<<...>>>``; the arguments in parentheses do not change."""
    for match in re.finditer("<<<", source.code):
        first = source.launched_kernel(match.start())
        last = source.find_outside_brackets(">>>", match.end())
        following = SPACES.match(source.code, last + 3)
        assert following is not None
        if source.code[following.end() : following.end() + 1] != "(":
            raise source.error(last, "no arguments follow >>>")
        kernel = " ".join(source.code[first : match.start()].split())
        lines = "\n" * source.code.count("\n", first, match.start())
        yield first, match.end(), f'::cuda_emulator::Launch("{kernel}", {lines}'
        yield last, last + 3, f").of({kernel})"


def shared_variables(source: Source) -> Iterator[Edit]:
    """Replace every declaration with ``__shared__``."""
    for match in SHARED.finditer(source.code):
        if source.code[: match.start()].rpartition("\n")[2].lstrip().startswith("#"):
            continue  # a macro, whose expansion is not known here
        end = source.find_outside_brackets(";", match.end())
        declaration = source.code[match.end() : end]
        alignment = "1"
        aligned = ALIGNMENT.search(declaration)
        if aligned is not None:
            closed = source.closing(match.end() + aligned.end() - 1) - match.end()
            alignment = declaration[aligned.end() : closed].strip()
            declaration = declaration[: aligned.start()] + declaration[closed + 1 :]
        replacement = (
            dynamic_declaration(source, match.start(), declaration, alignment)
            if match[1]
            else static_declaration(source, match.start(), declaration, alignment)
        )
        # Keep the number of lines of the declaration.
        yield match.start(), end, replacement + "\n" * source.code.count("\n", match.start(), end)


def dynamic_declaration(source: Source, position: int, declaration: str, alignment: str) -> str:
    """Return a pointer in place of ``extern __shared__ T name[];``."""
    match = re.fullmatch(r"\s*(.+?)\s*\b(\w+)\s*\[\s*\]\s*", declaration, re.DOTALL)
    if match is None:
        raise source.error(position, "expected extern __shared__ TYPE NAME[];")
    kind, name = " ".join(match[1].split()), match[2]
    return f"{kind}* {name} = ::cuda_emulator::dynamic_shared<{kind}>({alignment})"


def static_declaration(source: Source, position: int, declaration: str, alignment: str) -> str:
    """Return references in place of ``__shared__ T name[..][..], name;``."""
    first, *others = split_outside_brackets(declaration)
    match = re.fullmatch(r"\s*(.+?[\s>])(\w+)\s*((?:\[[^\]]*\]\s*)*)\s*", first, re.DOTALL)
    if match is None:
        raise source.error(position, "expected __shared__ TYPE NAME[SIZE], ...;")
    kind = " ".join(match[1].split())
    declarators = [(match[2], match[3])]
    for other in others:
        following = re.fullmatch(r"\s*(\w+)\s*((?:\[[^\]]*\]\s*)*)", other, re.DOTALL)
        if following is None:
            raise source.error(position, "expected __shared__ TYPE NAME[SIZE], ...;")
        declarators.append((following[1], following[2]))
    return "; ".join(
        f"auto& {name} = ::cuda_emulator::shared_variable<{kind}{' '.join(sizes.split())}>"
        f"({alignment}, [] {{}})"
        for name, sizes in declarators
    )


def split_outside_brackets(text: str) -> list[str]:
    """Split a declaration at the commas outside brackets and template arguments."""
    parts, depth, start = [], 0, 0
    for i, character in enumerate(text):
        depth += (character in "([{<") - (character in ")]}>")
        if character == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    return [*parts, text[start:]]


def launch_bounds(source: Source) -> Iterator[Edit]:
    """Insert a check at the beginning of every body that has ``__launch_bounds__``."""
    for match in BOUNDS.finditer(source.code):
        if source.code[: match.start()].rpartition("\n")[2].lstrip().startswith("#"):
            continue
        closed = source.closing(match.end() - 1)
        bounds = " ".join(source.code[match.end() : closed].split())  # of which the first counts
        parameters = source.code.find("(", closed)
        if parameters < 0:
            raise source.error(match.start(), "no kernel follows __launch_bounds__")
        end = source.closing(parameters) + 1
        following = SPACES.match(source.code, end)
        assert following is not None
        body = following.end()
        if source.code[body : body + 1] == "{":
            check = f"{{ ::cuda_emulator::require_launch_bounds({bounds});"
            yield body, body + 1, check


def translate(text: str, name: str) -> str:
    """Return the C++ of the CUDA source `text`, which came from the file `name`."""
    source = Source(text, name)
    edits = sorted([*launches(source), *shared_variables(source), *launch_bounds(source)])
    parts, position = [], 0
    for start, end, replacement in edits:
        parts += [text[position:start], replacement]
        position = end
    translated = "".join([*parts, text[position:]])
    return f'#include "cuda_emulator.h"\n#line 1 "{name}"\n{translated}'


def main(source: str, target: str) -> None:
    """Translate a file; leave the result untouched if it would not change."""
    path = Path(source).resolve()
    translated = translate(path.read_text(), str(path))
    output = Path(target)
    if not output.exists() or output.read_text() != translated:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(translated)


if __name__ == "__main__":
    main(*sys.argv[1:])
