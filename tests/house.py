#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the house looks like, in figures. A measure, no verdict; the order of the folders is
what layers.py checks.

usage: house.py SOURCE [BUILD] [--details]
       house.py SOURCE BUILD --check LIMITS     1 when a figure is not the one in LIMITS
       house.py SOURCE BUILD --write LIMITS     makes them what they are now

Lines: functions, comments and heads are read from the text of .c files and headers, in
clang-format's layout: a function begins with a "{" alone in column 0. A function is as long as
its definition, from the line with its type to its "}". The share of comments is of lines that are
not blank, without the licence's. A head is a comment before the first #include, or one that
stands alone behind the last.

Of tests/ only the lengths of its .c files are measured.

Depth: how many headers of ours the longest chain of includes of a .c file has. How calls and
writers are counted say house_calls.py and house_writers.py.
"""
import argparse
import collections
import os
import pathlib
import re
import sys

import house_calls
import house_writers
import layers

TOPS = house_calls.TOPS
LINES_MOST = 600
LINES_WITHOUT_HEAD = 200


# Text


# A comment, a string, a character.
TOKEN = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)


def blank(text, only_comments=False):
    """@text without comments, and with strings emptied; each line stays where it is."""
    def replace(match):
        token = match.group()
        if token.startswith("/"):
            return re.sub(r"[^\n]", " ", token)
        return token if only_comments else token[0] + " " * (len(token) - 2) + token[-1]
    return TOKEN.sub(replace, text)


class Source:
    """One file of ours."""

    def __init__(self, path):
        self.path = str(path)
        self.top, self.folder = layers.folder_of(path)
        self.suffix = pathlib.Path(path).suffix
        self.text = pathlib.Path(path).read_text()
        self.code = blank(self.text)
        self.n_lines = self.text.count("\n")
        self.includes = layers.includes(pathlib.Path(path))
        self.functions = list(find_functions(self.code)) if self.suffix in (".c", ".h") else []

    def count_comments(self):
        """Lines with a comment, those with nothing else, lines that are not blank."""
        n_comments = n_alone = n_lines = 0
        code = blank(self.text, only_comments=True)
        for line, without in zip(self.text.split("\n"), code.split("\n")):
            if not line.strip() or "SPDX-License-Identifier" in line:
                continue
            n_lines += 1
            n_comments += line.rstrip() != without.rstrip()
            n_alone += not without.strip()
        return n_comments, n_alone, n_lines

    def has_head(self):
        rest = re.sub(r"\A(\s*/\*[^\n]*SPDX[^\n]*\*/|#!.*)", "", self.text).lstrip()
        if rest.startswith("/*"):
            return True
        # Behind the includes: alone, so that it belongs to nothing that follows.
        rest = re.sub(r"\A(?:#[^\n]*\n|\s*\n)+", "", rest)
        comment = re.match(r"/\*.*?\*/", rest, re.DOTALL)
        return bool(comment) and rest[comment.end():].startswith("\n\n")


Function = collections.namedtuple("Function", "name first last text")


def find_functions(code):
    lines = code.split("\n")
    for at, line in enumerate(lines):
        if line != "{":
            continue
        first = at
        while first > 0 and lines[first - 1].strip() and lines[first - 1][0] not in "}#" and \
                not lines[first - 1].rstrip().endswith(";"):
            first -= 1
        named = re.search(r"(\w+)\s*\(", "\n".join(lines[first:at]).replace("__attribute__", ""))
        if named is None:
            continue
        last = next(n for n in range(at, len(lines)) if lines[n].startswith("}"))
        yield Function(named.group(1), first + 1, last + 1, "\n".join(lines[first:last + 1]))


def rank(values, percent):
    """The value that so many percent do not exceed."""
    values = sorted(values)
    return values[max(0, -(-len(values) * percent // 100) - 1)] if values else 0


def find_long(lengths):
    """[(-lines, path)] of the files that are too long, the longest first."""
    return sorted((-n_lines, path) for path, n_lines in lengths.items() if n_lines > LINES_MOST)


def measure_depth(sources):
    """The longest chain of includes below each file, as the list of its headers."""
    chains = {}

    def chain_of(path):
        if path not in chains:
            chains[path] = []  # A header that includes itself, by detours, ends here.
            source = sources.get(path)
            below = [chain_of(other) for other in source.includes] if source else []
            chains[path] = [path] + max(below, key=len, default=[])
        return chains[path]
    return {path: chain_of(path)[1:] for path in sources}


# What is printed


class House:
    """Everything that is measured of one top."""

    def __init__(self, top, sources, calls):
        self.top = top
        self.sources = {path: source for path, source in sources.items() if source.top == top}
        self.modules = {path: source for path, source in self.sources.items()
                        if source.suffix == ".c"}
        self.folders = collections.Counter(source.folder for source in self.sources.values())
        self.long_files = find_long({path: source.n_lines
                                     for path, source in self.modules.items()})
        self.headless = [path for path, source in self.modules.items()
                         if source.n_lines > LINES_WITHOUT_HEAD and not source.has_head()]
        self.functions = sorted((function.first - function.last - 1, function.name, path)
                                for path, source in self.sources.items()
                                for function in source.functions)
        counted = [source.count_comments() for source in self.sources.values()
                   if source.suffix in (".c", ".h")]
        n_comments, n_alone, n_lines = (sum(column) for column in zip(*counted))
        self.comments, self.alone = 100 * n_comments / n_lines, 100 * n_alone / n_lines
        depths = measure_depth(sources)
        self.depths = {path: depths[path] for path in self.modules}
        self.writers = house_writers.Writers(sources, top)
        self.edges = None
        if calls:
            self.edges, modules = calls[0][top], calls[1][top]
            self.sets = house_calls.find_circles(modules, self.edges)
            self.circles = sorted((members for members in self.sets if len(members) > 1),
                                  key=lambda members: (-len(members), members))
            self.floors = house_calls.find_floors(self.sets, self.edges)
            self.up = sorted(edge for edge in self.edges if house_calls.runs_up(*edge))
            self.has_order = all(house_calls.runs_up(a, b) is not None for a, b in self.edges
                                 if not {layers.folder_of(a)[1], layers.folder_of(b)[1]}
                                 & layers.ALONE[top])

    def lengths(self):
        return [-length for length, _, _ in self.functions]

    def figures(self):
        """[(key in the limits or None, what it is, figure)]"""
        lengths = self.lengths()
        longest = max(self.folders.values())
        shared = self.writers.shared_structs()
        has_model = "model" in self.writers.declared
        rows = [
            (None, "files, and folders that they are in",
             f"{len(self.sources)}, {len(self.folders)}"),
            (None, "files in the fullest folder", longest),
            ("long_files", f".c files over {LINES_MOST} lines", len(self.long_files)),
            (None, "lines of a function: p50", rank(lengths, 50)),
            ("function_p95", "lines of a function: p95", rank(lengths, 95)),
            (None, "lines of a function: longest", max(lengths)),
            ("comments", "lines with a comment, %", round(self.comments, 1)),
            (None, "lines with nothing but a comment, %", round(self.alone, 1)),
            ("headless", f".c files over {LINES_WITHOUT_HEAD} lines without a head",
             len(self.headless)),
            (None, "depth of includes: p50, longest",
             f"{rank(map(len, self.depths.values()), 50)}, "
             f"{max(map(len, self.depths.values()))}"),
        ]
        if self.edges is not None:
            rows += [
                (None, "modules, and calls between two of them",
                 f"{len(self.modules)}, {len(self.edges)}"),
                ("in_circles", "modules in circles", sum(map(len, self.circles))),
                ("circles", "circles", len(self.circles)),
                ("largest_circle", "modules in the largest circle",
                 max(map(len, self.circles), default=0)),
                (None, "floors", len(self.floors)),
                ("up", "modules that call into a later folder: pairs",
                 len(self.up) if self.has_order else "-"),
            ]
        rows += [
            (None, "struct model: members",
             len(self.writers.structs["model"]) if has_model else "-"),
            ("model_writers", "struct model: files that write to it",
             len(self.writers.writers_of("model")) if has_model else "-"),
            ("model_shared", "struct model: members that several files write to",
             len(self.writers.shared_members("model")) if has_model else "-"),
            ("shared_structs", "structs of headers that several files write to", len(shared)),
        ]
        return rows


class Tests:
    """What is held of tests/: each program can be read in one sitting."""

    top = "tests"

    def __init__(self):
        lengths = {str(path): path.read_text().count("\n") for path in layers.sources(self.top)
                   if path.suffix == ".c"}
        self.n_files = len(lengths)
        self.long_files = find_long(lengths)

    def figures(self):
        return [("long_files", f".c files over {LINES_MOST} lines", len(self.long_files))]


def print_long(measured):
    for n, path in measured.long_files:
        print(f"    {-n:4} {path}")


def print_tests(tests):
    print(f"\ntests/: {len(tests.long_files)} of {tests.n_files} .c files over {LINES_MOST} lines")
    print_long(tests)


def print_table(houses):
    print("| | " + " | ".join(f"{house.top}/" for house in houses) + " |")
    print("|---|" + "---|" * len(houses))
    for rows in zip(*(house.figures() for house in houses)):
        print(f"| {rows[0][1]} | " + " | ".join(str(row[2]) for row in rows) + " |")


def print_details(house):
    def title(text):
        print(f"\n{house.top}/: {text}\n")
    title("files in each folder")
    for folder, n in sorted(house.folders.items()):
        print(f"    {n:4} {folder}")
    title(f".c files over {LINES_MOST} lines")
    print_long(house)
    title("longest functions")
    for n, name, path in house.functions[:10]:
        print(f"    {-n:4} {name} {path}")
    title(f".c files over {LINES_WITHOUT_HEAD} lines without a head")
    for path in house.headless:
        print(f"    {house.modules[path].n_lines:4} {path}")
    title("longest chain of includes")
    path, chain = max(house.depths.items(), key=lambda item: len(item[1]))
    print("    " + " > ".join([path] + chain))
    title("structs of headers that several files write to: members, those that several write "
          f"to, files ({house.writers.n_unknown} writes through something unknown)")
    for name in house.writers.shared_structs():
        print(f"    struct {name}: {len(house.writers.structs[name])}, "
              f"{len(house.writers.shared_members(name))}, "
              f"{', '.join(sorted(house.writers.writers_of(name)))}")
        for member, files in sorted(house.writers.found[name].items()):
            print(f"        {member}: {', '.join(sorted(files))}")
    if house.edges is None:
        return
    title("calls into a later folder")
    for a, b in house.up:
        print(f"    {a} > {b}: {', '.join(sorted({name for _, name in house.edges[a, b]}))}")
    title("floors, the uppermost first")
    for members in reversed(house.floors):
        print("    " + (members[0] if len(members) == 1 else
                        f"({len(members)} in a circle: {', '.join(members)})"))
    for members in house.circles:
        title(f"{len(members)} in a circle")
        print("    " + ", ".join(members))
        cut = house_calls.break_circle(members, house.edges)
        within = [edge for edge in house.edges if set(edge) <= set(members)]
        print(f"    {len(cut)} of {len(within)} pairs, {sum(len(calls) for _, calls in cut)} of "
              f"{sum(len(house.edges[edge]) for edge in within)} calls close it:")
        for (a, b), calls in cut:
            print(f"        {a} > {b}: " + ", ".join(f"{caller}() > {name}()"
                                                     for caller, name in sorted(calls)))


# Limits


def read_limits(path):
    """{"supervisor.circles": "2"}"""
    lines = (line.split("#")[0].split() for line in path.read_text().splitlines())
    return {words[0]: words[1] for words in lines if words}


def judge(house, limits):
    """Sentences about what is not as the limits say."""
    figures = {key: figure for key, _, figure in house.figures() if key and figure != "-"}
    fewer = figures.get("in_circles", 0) < int(limits.get(f"{house.top}.in_circles", 0))
    for key, figure in figures.items():
        name = f"{house.top}.{key}"
        if name not in limits:
            yield f"there is no line: {name} {figure}"
        elif "-" in limits[name]:
            least, most = map(float, limits[name].split("-"))
            if not least <= figure <= most:
                yield f"{name} is {figure}, and was to be {limits[name]}"
        elif figure > int(limits[name]) and not (key == "circles" and fewer):
            yield f"{name} is {figure}, worse than {limits[name]}"
        elif figure != int(limits[name]):
            # A large circle in two is better, too.
            yield f"{name} is better now, and is to stay so. Write: {name} {figure}"


def check(houses, path):
    limits = read_limits(path)
    wrong = [sentence for house in houses for sentence in judge(house, limits)]
    known = {f"{house.top}.{key}" for house in houses for key, _, figure in house.figures()
             if key and figure != "-"}
    wrong += [f"nothing is called {name}" for name in sorted(set(limits) - known)]
    for sentence in wrong:
        print(f"{path.name}: {sentence}")
    if wrong:
        print("house.py SOURCE BUILD --details names them; --write tests/house.limits writes "
              "the limits")
    return 1 if wrong else 0


def write(houses, path):
    """Each line as it is, with what is measured now. The range of comments stays."""
    figures = {f"{house.top}.{key}": figure for house in houses
               for key, _, figure in house.figures() if key and figure != "-"}
    lines = []
    for line in path.read_text().splitlines():
        name = line.split("#")[0].split()[:1]
        if name and name[0] in figures and not name[0].endswith(".comments"):
            line = f"{name[0]} {figures[name[0]]}"
        lines.append(line)
    path.write_text("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(usage=__doc__.partition("usage: ")[2])
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("build", type=pathlib.Path, nargs="?")
    parser.add_argument("--details", action="store_true")
    parser.add_argument("--check", type=pathlib.Path, metavar="LIMITS")
    parser.add_argument("--write", type=pathlib.Path, metavar="LIMITS")
    arguments = parser.parse_args()
    limits = (arguments.check or arguments.write or pathlib.Path()).resolve()
    source = arguments.source.resolve()
    build = arguments.build.resolve() if arguments.build else None
    if build is None and (arguments.check or arguments.write):
        parser.error("the limits are of a build, too")
    os.chdir(source)
    sources = {str(path): Source(path) for top in ("shared", *TOPS)
               for path in layers.sources(top)}
    calls = house_calls.read_calls(build, source, sources) if build else None
    houses = [House(top, sources, calls) for top in TOPS]
    tests = Tests()
    if arguments.check:
        return check([*houses, tests], limits)
    if arguments.write:
        write([*houses, tests], limits)
        return 0
    print_table(houses)
    print_tests(tests)
    if arguments.details:
        for house in houses:
            print_details(house)
    return 0


if __name__ == "__main__":
    sys.exit(main())
