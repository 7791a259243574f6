"""Views as LaTeX tables: one booktabs longtable each, with all names escaped."""

from robustgap.analysis.view import View, cell

SPECIAL = {
    "\\": r"\textbackslash{}",
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "−": "$-$",
    "±": r"$\pm$",
    "²": "$^2$",
    "τ": r"$\tau$",
    "ψ": r"$\psi$",
    "π": r"$\pi$",
    "ε": r"$\varepsilon$",
    "∞": r"$\infty$",
    "≤": r"$\leq$",
    "×": r"$\times$",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "–": "--",
    "\n": " ",
}
WIDE = 40  # characters; wider text columns are set as paragraphs


def escape(text: str) -> str:
    """Escape text so that LaTeX prints the same characters."""
    return "".join(SPECIAL.get(letter, letter) for letter in text)


def to_latex(view: View, study: str) -> str:
    r"""A `longtable` that needs the packages booktabs, longtable and textcomp; its label is tab:STUDY-NAME."""
    rows = [[cell(row, column)[0] for column in view.columns] for row in view.frame.to_dict("records")]
    kinds = []
    for index, column in enumerate(view.columns):
        long = max((len(row[index]) for row in rows), default=0) > WIDE
        kinds.append(r"p{0.3\linewidth}" if long and column.form == "text" else "l" if column.form == "text" else "r")
    heading = " & ".join(escape(column.title) for column in view.columns)
    body = [" & ".join(escape(text) for text in row) + r" \\" for row in rows]
    empty = rf"\multicolumn{{{len(view.columns)}}}{{l}}{{nothing to list}} \\"
    label = "".join(letter if letter.isalnum() or letter == "-" else "-" for letter in f"{study}-{view.name}")
    lines = [
        "% needs \\usepackage{booktabs,longtable,textcomp}",
        rf"\begin{{longtable}}{{{''.join(kinds)}}}",
        rf"\caption{{{escape(view.heading)}. {escape(view.look)}}}\label{{tab:{label}}} \\",
        r"\toprule",
        heading + r" \\",
        r"\midrule",
        r"\endfirsthead",
        r"\toprule",
        heading + r" \\",
        r"\midrule",
        r"\endhead",
        r"\bottomrule",
        r"\endfoot",
        *(body or [empty]),
        r"\end{longtable}",
    ]
    return "\n".join(lines) + "\n"
