"""SVG as PNG, rasterised by resvg in a process of its own.

A hostile SVG can end the process that rasterises it: resvg crashes on elements nested a few hundred
deep and asks for terabytes for a picture 1 wide and 10^9 high. The process may take ``MEMORY`` and
``SECONDS``, and the file may name no other file.
"""

import resource
import subprocess
import sys
from pathlib import Path
from xml.parsers import expat

MEMORY = 2 << 30  # bytes
SECONDS = 20
LONGEST_ENTITY = 200  # characters; Illustrator declares the names of its namespaces so


def rasterise(path: Path, width: int) -> bytes:
    """A PNG of that width.

    Raises:
        ValueError: no SVG, one that takes more than ``MEMORY`` or ``SECONDS``, one that names
            other files or declares entities that do; the file's path is not in the message.
    """
    command = [sys.executable, "-I", __file__, str(path.resolve()), str(width)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise ValueError(f"no SVG that can be drawn within {SECONDS} s") from None
    if done.returncode < 0:  # ended by a signal: the stack or the memory was not enough
        raise ValueError(f"no SVG that can be drawn within {MEMORY >> 30} GiB")
    if done.returncode:
        lines = done.stderr.decode(errors="replace").split("\n")
        raise ValueError(f"no SVG that can be drawn: {next(filter(None, reversed(lines)), '')}")
    return done.stdout


def require_alone(data: bytes) -> None:
    """Raises ValueError where an SVG is no XML, names other files, or declares entities that do,
    that are long, or that are made of others: such grow tenfold with each.
    """

    def element(name: str, attributes: dict[str, str]) -> None:
        for key, value in attributes.items():
            named = key.rpartition(":")[2] == "href" and name.rpartition(":")[2] != "a"
            if named and not value.startswith(("#", "data:")):
                raise ValueError(f"it names another file, {value[:80]!r}")

    def entity(name: str, parameter: bool, value: str | None, *_: object) -> None:
        if parameter or value is None or "&" in value or len(value) > LONGEST_ENTITY:
            raise ValueError(
                f"it declares the entity {name!r}, which is no text of at most {LONGEST_ENTITY} "
                f"characters"
            )

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EntityDeclHandler = element, entity
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise ValueError(f"no XML: {error}") from None


def _main(path: str, width: int) -> None:
    import resvg_py

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        data = Path(path).read_bytes()
        require_alone(data)
        # Sizes in points need a resolution; without one they are zero.
        png = resvg_py.svg_to_bytes(
            svg_string=data.decode(), width=width, dpi=96, skip_system_fonts=True
        )
    except (ValueError, MemoryError) as error:
        sys.exit(str(error) or "too little memory")
    sys.stdout.buffer.write(bytes(png))


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]))
