"""Write the table of options into docs/options.md."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
BEGIN = "<!-- begin of the table; docs/make_options.py writes it -->\n"
END = "<!-- end of the table -->\n"


def main() -> None:
    sys.path.insert(0, str(HERE.parent))
    from vidmatte.option_table import options_as_markdown

    path = HERE / "options.md"
    text = path.read_text(encoding="utf-8")
    before = text[: text.index(BEGIN) + len(BEGIN)]
    after = text[text.index(END) :]
    path.write_text(f"{before}\n{options_as_markdown()}\n{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
