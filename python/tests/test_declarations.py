"""What the package declares is what the header says."""

import ctypes
import subprocess
import sys
from pathlib import Path

from asap import _declarations as c

from conftest import ROOT

RECORDS = [
    record
    for record in vars(c).values()
    if isinstance(record, type)
    and issubclass(record, (ctypes.Structure, ctypes.Union))
    and record.__module__ == c.__name__
]
CONSTANTS = {name: value for name, value in vars(c).items() if name.isupper() and isinstance(value, int)}


def test_declarations_are_generated_from_this_header() -> None:
    subprocess.run([sys.executable, str(ROOT / "python" / "declare.py"), "--check"], check=True)


def test_every_function_of_the_header_is_declared_and_no_other() -> None:
    text = (ROOT / "include" / "asap.h").read_text()
    # A function's name is the one before "(" at the end of its documentation, so this counts them another way than declare.py.
    declared = {
        line.split("(")[0].split()[-1].lstrip("*")
        for line in text.splitlines()
        if line and line[0].isalpha() and "(" in line
    }
    declared = {name for name in declared if name.startswith(("rsp_", "asap_"))}
    assert declared == set(c.FUNCTIONS)
    assert len(declared) > 60


def test_sizes_offsets_and_values_are_the_compilers(tmp_path: Path) -> None:
    lines = []
    expected = []
    for record in RECORDS:
        kind = "union" if issubclass(record, ctypes.Union) else "struct"
        name = f"{kind} {record.__name__}"
        lines.append(f'printf("{record.__name__} %zu\\n", sizeof({name}));')
        expected.append(f"{record.__name__} {ctypes.sizeof(record)}")
        for field, *_ in record._fields_:
            if name == "struct sockaddr_storage" and field != "ss_family":
                continue
            # The size of what a pointer points to cannot be told; that of the field can.
            lines.append(
                f'printf("{record.__name__}.{field} %zu %zu\\n", offsetof({name}, {field}), sizeof((({name} *)0)->{field}));'
            )
            told = getattr(record, field)
            expected.append(f"{record.__name__}.{field} {told.offset} {told.size}")
    for constant, value in CONSTANTS.items():
        lines.append(f'printf("{constant} %lld\\n", (long long)({constant}));')
        expected.append(f"{constant} {value}")
    source = tmp_path / "values.c"
    program = tmp_path / "values"
    source.write_text(
        "#include <asap.h>\n#include <stddef.h>\nint main(void)\n{\n" + "\n".join(lines) + "\nreturn 0;\n}\n"
    )
    subprocess.run(["cc", "-Wall", "-Werror", f"-I{ROOT / 'include'}", str(source), "-o", str(program)], check=True)
    output = subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout
    assert output.splitlines() == expected
    assert len(RECORDS) > 15 and len(CONSTANTS) > 70


def test_numbers_of_parameters_and_results_are_the_compilers(tmp_path: Path) -> None:
    lines = []
    for function, (result, parameters) in c.FUNCTIONS.items():
        call = f"{function}({', '.join('0' for _ in parameters)})"
        if result is None:
            lines.append(f"(void){call};")
        else:
            lines.append(f'_Static_assert(sizeof({call}) == {ctypes.sizeof(result)}, "{function}");')
            signed = issubclass(result, ctypes._SimpleCData) and result._type_ in "hilq"
            if not issubclass(result, (ctypes.c_char_p, ctypes.c_void_p)):
                lines.append(f'_Static_assert(((__typeof__({call}))-1 < 0) == {int(signed)}, "{function}");')
    source = tmp_path / "calls.c"
    source.write_text("#include <asap.h>\nvoid calls(void);\nvoid calls(void)\n{\n" + "\n".join(lines) + "\n}\n")
    subprocess.run(["cc", "-fsyntax-only", "-Wall", "-Werror", f"-I{ROOT / 'include'}", str(source)], check=True)
