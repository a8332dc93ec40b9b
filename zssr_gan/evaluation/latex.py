"""Tables as LaTeX: a `table` with a `tabular`, which needs no package; its notes stand below in small type."""

from zssr_gan.evaluation.tables import Table, definition_text, short_name

_SIGNS = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # after a line's end it would be taken for an argument
    "]": "{]}",
    "±": r"\ensuremath{\pm}",
}


def to_latex(table: Table) -> str:
    """A table with its notes: definitions by letters, remarks on cells by numbers."""
    letters, numbers = table.letters, table.numbers
    heads = [
        *map(_escape, table.all_heads),
        *(_escape(short_name(one)) + _mark(letters[one.name]) for one in table.columns),
    ]
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{_escape(table.title)}}}"]
    lines += [rf"\begin{{tabular}}{{{'l' * len(table.all_heads)}{'r' * len(table.columns)}}}", r"\hline"]
    lines += [" & ".join(heads) + r" \\", r"\hline"]
    for row in table.rows:
        cells = [row.cells[column.name] for column in table.columns]
        texts = [*map(_escape, row.all_texts), *(_escape(one.text) + _mark(numbers.get(one.remark)) for one in cells)]
        lines.append(" & ".join(texts) + r" \\")
    lines += [r"\hline", r"\end{tabular}", "", r"\footnotesize"]
    lines += [f"{_escape(note)}.\n" for note in table.notes]
    lines += [f"{_mark(letters[one.name])} {_escape(definition_text(one))}\n" for one in table.columns]
    lines += [f"{_mark(number)} {_escape(remark)}\n" for remark, number in numbers.items()]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _mark(mark: str | None) -> str:
    return f"\\textsuperscript{{{mark}}}" if mark else ""


def _escape(text: str) -> str:
    return "".join(_SIGNS.get(sign, sign) for sign in text.replace("\n", " "))
