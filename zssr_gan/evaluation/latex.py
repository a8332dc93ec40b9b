"""Tables as LaTeX: a `table` with a `tabular`, which needs no package; its notes stand below in small type."""

from zssr_gan.evaluation.tables import Table, lay_out

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
    heads, rows, notes = lay_out(table, _escape, lambda note: f"\\textsuperscript{{{note}}}")
    columns = "l" * len(table.all_heads) + "r" * len(table.columns)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_escape(table.title)}}}",
        rf"\begin{{tabular}}{{{columns}}}",
    ]
    lines += [r"\hline", " & ".join(heads) + r" \\", r"\hline", *(" & ".join(row) + r" \\" for row in rows)]
    lines += [r"\hline", r"\end{tabular}", "", r"\footnotesize"]
    lines += [f"{_escape(note)}.\n" for note in table.notes]
    lines += [f"{note}\n" for note in notes]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _escape(text: str) -> str:
    return "".join(_SIGNS.get(sign, sign) for sign in text.replace("\n", " "))
