# SPDX-License-Identifier: Apache-2.0
"""Which module calls which, and in what circles: a part of house.py.

A module is a .c file. One calls another when its object calls or jumps to a function
that the other defines and a header declares; the relocations of BUILD say so. Calls through
pointers and calls of shared/ do not count, neither does C++. A circle is a set of modules that
all reach each other; floors is the number of modules in the longest chain of calls, a circle
counted as one. A call runs up when the folder of the called one comes later in the order of
layers.py.
"""
import collections
import json
import os
import pathlib
import random
import re
import shlex
import subprocess
import sys

import layers

TOPS = ("supervisor", "loader")
# Circles of up to so many modules are broken by trying everything.
EXACT_MOST = 14
# Larger ones: so many rows are begun with.
ROWS = 50


def objects_of(build, source):
    """The object files of each .c file, as the build's own list of commands says."""
    found = collections.defaultdict(list)
    for entry in json.loads((build / "compile_commands.json").read_text()):
        path = os.path.relpath(entry["file"], source)
        if path.split(os.sep)[0] not in TOPS or not path.endswith(".c"):
            continue
        words = shlex.split(entry["command"])
        built = pathlib.Path(entry["directory"]) / words[words.index("-o") + 1]
        if not built.exists():
            sys.exit(f"{built} is not there: what is built in part has too few calls")
        found[path].append(built)
    return found


def read_object(path):
    """Functions that it defines for others, and (function, called) for what it calls."""
    defined, calls = set(), set()
    caller = mnemonic = ""
    dump = subprocess.run(["objdump", "--syms", "--disassemble", "--reloc",
                           "--no-show-raw-insn", path],
                          capture_output=True, text=True, check=True).stdout
    for line in dump.splitlines():
        symbol = re.match(r"[0-9a-f]+ [gw] ....F \.text\S*\s+[0-9a-f]+ (?:\.hidden )?(\S+)", line)
        function = re.match(r"[0-9a-f]+ <([^>]+)>:", line)
        relocation = re.match(r"\s+[0-9a-f]+: (R_\S+)\s+([A-Za-z_][\w$]*)", line)
        if symbol:
            defined.add(symbol.group(1))
        elif function:
            # GCC's parts of a function are called foo.cold, foo.part.0, foo.isra.0
            caller = function.group(1).split(".")[0]
        elif relocation:
            kind, name = relocation.groups()
            if re.search("PLT32|CALL26|JUMP26", kind) or mnemonic.startswith(("call", "jmp")):
                calls.add((caller, name))
        elif re.match(r"\s+[0-9a-f]+:\t", line):
            mnemonic = line.split("\t")[1].strip()
    return defined, calls


def read_calls(build, source, sources):
    """top: {(module, module): {(function, function)}}, and modules of each top."""
    # http/recv.c has a recv() for libmicrohttpd; others that call one mean the C library's.
    declared = set()
    for one in sources.values():
        if one.suffix == ".h":
            declared.update(re.findall(r"\b(\w+)\(", one.code))
    objects = objects_of(build, source)
    definers = collections.defaultdict(set)
    called = {}
    for path, built in objects.items():
        called[path] = set()
        for one in built:
            defined, calls = read_object(one)
            for name in defined:
                definers[name].add(path)
            called[path] |= calls
    edges = {top: collections.defaultdict(set) for top in TOPS}
    for path, calls in called.items():
        top = path.split("/")[0]
        for caller, name in calls:
            for other in definers.get(name, ()):
                if other != path and other.split("/")[0] == top and name in declared:
                    edges[top][path, other].add((caller, name))
    modules = {top: sorted(path for path in objects if path.split("/")[0] == top)
               for top in TOPS}
    return edges, modules


def find_circles(modules, edges):
    """Sets of modules that reach each other, what is called before what calls (Tarjan)."""
    following = collections.defaultdict(list)
    for a, b in sorted(edges):
        following[a].append(b)
    index, low, stack, sets = {}, {}, [], []

    def visit(module):
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in following[module]:
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            members = stack[stack.index(module):]
            del stack[stack.index(module):]
            sets.append(sorted(members))
    for module in modules:
        if module not in index:
            visit(module)
    return sets


def find_floors(sets, edges):
    """The longest chain of sets, from the ground."""
    set_of = {module: n for n, members in enumerate(sets) for module in members}
    below = collections.defaultdict(set)
    for a, b in edges:
        if set_of[a] != set_of[b]:
            below[set_of[a]].add(set_of[b])
    chains = []
    for n in range(len(sets)):
        chains.append(max((chains[other] for other in below[n]), key=len, default=[]) + [n])
    return [sets[n] for n in max(chains, key=len, default=[])]


def runs_up(a, b):
    """True: @b's folder comes later than @a's. None: the order does not know them."""
    top, folder = layers.folder_of(a)
    order, other = layers.ORDER[top], layers.folder_of(b)[1]
    if folder not in order or other not in order:
        return None
    return order.index(other) > order.index(folder)


def weight_of(a, b, calls):
    """What it costs to do without: the calls. Among equals, those that run up go first."""
    return 2 * len(calls) - bool(runs_up(a, b))


def break_circle(members, edges):
    """Few calls without which no two of @members reach each other: [((a, b), calls)].

    They are those that run backwards when the modules stand in a row. The best row is found by
    trying everything where there are few modules. Else it is the best of many in which moving
    one module makes nothing better, and another may be better still.
    """
    weights = {(a, b): weight_of(a, b, calls) for (a, b), calls in edges.items()
               if a in members and b in members}
    row = best_row(members, weights) if len(members) <= EXACT_MOST else \
        good_row(members, weights)
    place = {module: n for n, module in enumerate(row)}
    return [(edge, edges[edge]) for edge in sorted(weights) if place[edge[0]] > place[edge[1]]]


def best_row(members, weights):
    """Callers first. cost[set]: of the calls back into what stands before, for the best row."""
    n = len(members)
    back = [[weights.get((a, b), 0) for b in members] for a in members]
    cost, chosen = [0] + [None] * (2 ** n - 1), [None] * 2 ** n
    for before in range(2 ** n):
        for k in range(n):
            if before >> k & 1:
                continue
            after = before | 1 << k
            now = cost[before] + sum(back[k][j] for j in range(n) if before >> j & 1)
            if cost[after] is None or now < cost[after]:
                cost[after], chosen[after] = now, k
    row, rest = [], 2 ** n - 1
    while rest:
        row.append(members[chosen[rest]])
        rest &= ~(1 << chosen[rest])
    return row[::-1]


def good_row(members, weights):
    rows = []
    for seed in range(ROWS):
        row = list(members)
        random.Random(seed).shuffle(row)
        is_better = True
        while is_better:
            is_better = False
            for module in list(row):
                at = row.index(module)
                row.remove(module)
                costs = place_costs(module, row, weights)
                best = costs.index(min(costs))
                is_better |= costs[best] < costs[at]
                row.insert(best if costs[best] < costs[at] else at, module)
        rows.append(row)
    return min(rows, key=lambda row: sum(
        weights.get((b, a), 0) for n, a in enumerate(row) for b in row[n + 1:]))


def place_costs(module, row, weights):
    """At each place: of @module's calls to what stands before it, and theirs to it behind."""
    costs = [sum(weights.get((other, module), 0) for other in row)]
    for other in row:
        costs.append(costs[-1] + weights.get((module, other), 0) - weights.get((other, module), 0))
    return costs
