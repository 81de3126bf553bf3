# SPDX-License-Identifier: Apache-2.0
"""Which files write to which members of structs: a part of house.py.

A .c file writes to a member of a struct when it assigns to it (=, +=, ++) through a
pointer, or gives it to memset() and its likes, to err_set(), to a list's macro, to libev's
functions that change a watcher, or a pointer's address to any function. A write to a part that
lies in a struct is one to the struct, too. Regular expressions find them, so the figures have
limits: not seen are writes by a function that is given the address of another member, by way of
a pointer to a member, through variables whose struct is not said in the same function, in macros
of our own, and in structs that are a variable's own value, which is how arguments are filled.
"""
import collections
import re

# Their first argument is written to.
WRITES_FIRST = re.compile(
    r"mem(?:set|cpy|move)|v?snprintf|st[rp]n?cpy|strlcpy|explicit_bzero|err_set|err_prefix|"
    r"(?:LIST|S?TAILQ)_(?:INIT|INSERT_\w+|REMOVE_HEAD)|TAILQ_REMOVE")
# Each argument "&..." is.
WRITES_WATCHER = re.compile(r"ev_(?:\w+_)?(?:init|set|start|stop|again|modify)")
STEP = r"\s*(->|\.)\s*([A-Za-z_]\w*)((?:\s*\[(?:[^\[\]]|\[[^\[\]]*\])*\])*)"
INDEX = r"(?:\s*\[(?:[^\[\]]|\[[^\[\]]*\])*\])*"
NAME = re.compile(r"(?<![\w.])[A-Za-z_]\w*")
# A variable, or what a function returns, with the members behind it.
CHAIN = re.compile(rf"([A-Za-z_]\w*)(\s*\((?:[^()]|\([^()]*\))*\)(?=\s*->)|{INDEX})"
                   rf"((?:{STEP})*)")
ASSIGNED = re.compile(r"\s*(?:[-+*/%&|^]|<<|>>)?=(?!=)|\s*(?:\+\+|--)")
ADDRESS = re.compile(r"[(,]\s*&")
CALL = re.compile(rf"\b({WRITES_FIRST.pattern}|{WRITES_WATCHER.pattern})\s*\(")

# struct_name: of the struct that it is or points to, or None
Member = collections.namedtuple("Member", "struct_name is_pointer is_array")


def parse_members(body, name, structs):
    """{member: Member} of what stands between a struct's braces; structs within it, too."""
    members = {}
    for declaration in split_at(body, ";"):
        opened = declaration.find("{")
        struct_name, tail = None, declaration
        if opened >= 0:
            kind = declaration[:opened].split()[0] if declaration[:opened].split() else ""
            inner, tail = declaration[opened + 1:declaration.rindex("}")], \
                declaration[declaration.rindex("}") + 1:]
            if kind in ("struct", "union"):
                struct_name = f"{name}.{tail.strip(' *') or len(members)}"
                within = parse_members(inner, struct_name, structs)
                if not tail.strip():
                    members.update(within)
                    continue
                structs[struct_name] = within
        else:
            function = re.search(r"\(\*\s*(\w+)", declaration)
            if function:
                members[function.group(1)] = Member(None, False, False)
                continue
            said = re.match(r"\s*(?:const\s+)?struct\s+(\w+)\b", declaration)
            struct_name = said.group(1) if said else None
            tail = re.sub(r"^\s*\w+\([^)]*\)", "", declaration)
        for declarator in split_at(tail, ","):
            named = re.search(r"(\w+)\s*((?:\[[^\]]*\]\s*)*)(?::\s*\w+\s*)?$", declarator)
            if named:
                members[named.group(1)] = Member(struct_name, "*" in declarator,
                                                 bool(named.group(2)))
    return members


def split_at(text, separator):
    """@text in parts, but not inside of brackets."""
    parts, depth, begun = [], 0, 0
    for at, sign in enumerate(text):
        depth += (sign in "([{") - (sign in ")]}")
        if sign == separator and depth == 0:
            parts.append(text[begun:at])
            begun = at + 1
    return [part for part in parts + [text[begun:]] if part.strip()]


def parse_structs(code):
    structs = {}
    for match in re.finditer(r"^struct (\w+) \{\n(.*?)^\}", code, re.MULTILINE | re.DOTALL):
        structs[match.group(1)] = parse_members(match.group(2), match.group(1), structs)
    return structs


def parse_variables(text):
    """{variable: (struct, stars)} of the parameters and variables in @text."""
    variables = {}
    for match in re.finditer(r"\bstruct\s+(\w+)\s*((?:\*|\bconst\b|\s)*)\b(\w+)"
                             r"(?=((?:[^;(){}]|\([^()]*\))*))", text):
        struct_name, stars, name, rest = match.groups()
        variables[name] = struct_name, stars.count("*")
        for more in re.finditer(r",\s*(\**)(\w+)\s*(?=[,;=\[]|$)", rest):
            variables.setdefault(more.group(2), (struct_name, len(more.group(1))))
    return variables


class Writers:
    """{struct: {member: {file}}} of a top; "*" is the struct as a whole."""

    def __init__(self, sources, top):
        self.found = collections.defaultdict(lambda: collections.defaultdict(set))
        self.n_unknown = 0
        ours = [source for source in sources.values() if source.top in (top, "shared")]
        everywhere, self.returned, self.declared = {}, {}, set()
        for source in ours:
            if source.suffix == ".h":
                structs = parse_structs(source.code)
                everywhere.update(structs)
                if source.top == top:
                    self.declared |= {name for name in structs if "." not in name}
            for match in re.finditer(r"^(?:static )?(?:inline )?(?:const )?struct (\w+) \*+"
                                     r"(\w+)\(", source.code, re.MULTILINE):
                self.returned[match.group(2)] = match.group(1)
        for source in ours:
            if source.top == top and source.suffix == ".c":
                self.structs = {**everywhere, **parse_structs(source.code)}
                outside = parse_variables(re.sub(r"^\{.*?^\}|\([^)]*\)", "", source.code,
                                                 flags=re.MULTILINE | re.DOTALL))
                for function in source.functions:
                    variables = {**outside, **parse_variables(function.text)}
                    self.read_function(source.path, function.text, variables)
        self.structs = everywhere

    def read_function(self, path, text, variables):
        for name in NAME.finditer(text):
            match = CHAIN.match(text, name.start())
            before = text[max(0, name.start() - 80):name.start()].rstrip()
            if before.endswith(("->", "struct")):
                continue
            is_target = re.search(r"(?:[;{}(,=):]|\belse)\s*\*+$", before)
            is_written = ASSIGNED.match(text, match.end()) or before.endswith(("++", "--"))
            if is_written and (not is_target or not match.group(3)):
                self.write(path, match, variables, bool(is_target))
        for match in CALL.finditer(text):
            closed = find_closed(text, match.end())
            arguments = split_at(text[match.end():closed], ",")
            if not WRITES_WATCHER.fullmatch(match.group(1)):
                arguments = arguments[:1]
            else:
                arguments = [one for one in arguments if one.strip().startswith("&")]
            for argument in arguments:
                is_part = argument.strip().startswith("&")
                chain = CHAIN.fullmatch(argument.strip().lstrip("&"))
                if chain and (is_part or not self.is_pointer(chain, variables)):
                    self.write(path, chain, variables, False)
                elif chain and not chain.group(3):
                    self.write(path, chain, variables, True)

        for match in ADDRESS.finditer(text):
            # Of a pointer: for another one.
            chain = CHAIN.match(text, match.end())
            steps = self.steps_of(chain, variables) if chain else None
            if steps and steps[-1][2].is_pointer and re.match(r"\s*[,)]", text[chain.end():]):
                self.write(path, chain, variables, False)

    def steps_of(self, chain, variables):
        """[(struct, member, Member, is it a part of what is before, index)]; None: nobody knows
        what the variable is."""
        root, behind = chain.group(1), chain.group(2).strip()
        if behind.startswith("("):
            struct_name, is_pointer = self.returned.get(root), True
        else:
            struct_name, n_stars = variables.get(root, (None, 0))
            is_pointer = n_stars and behind
        if struct_name is None:
            return None
        steps = []
        for operator, name, index in re.findall(STEP, chain.group(3)):
            is_part = operator == "." and not is_pointer
            member = self.structs.get(struct_name, {}).get(name)
            if member is None:
                # Somebody else's struct. It may be a part of ours.
                return steps if is_part else []
            steps.append((struct_name, name, member, is_part, index))
            struct_name, is_pointer = member.struct_name, member.is_pointer
        return steps

    def is_pointer(self, chain, variables):
        """What is given to a function is a pointer that lies in the member, and no array."""
        if not chain.group(3):
            return True
        steps = self.steps_of(chain, variables)
        return bool(steps) and points(steps[-1][2])

    def write(self, path, chain, variables, is_whole):
        if not chain.group(3):
            struct_name, n_stars = variables.get(chain.group(1), (None, 0))
            if is_whole and n_stars == 1:
                self.found[struct_name]["*"].add(path)
            return
        steps = self.steps_of(chain, variables)
        if steps is None:
            self.n_unknown += 1
            return
        if not steps or steps[-1][4] and points(steps[-1][2]):
            return
        # From the member outwards, for as long as one lies in the other.
        written = []
        for struct_name, name, _, is_part, _ in reversed(steps):
            written.append((struct_name, name))
            if not is_part:
                break
        else:
            return  # a variable's own value
        for struct_name, name in written:
            self.found[struct_name][name].add(path)

    def writers_of(self, struct_name):
        return set().union(*self.found[struct_name].values()) \
            if struct_name in self.found else set()

    def shared_members(self, struct_name):
        """Members that several files write to."""
        return [name for name, files in self.found[struct_name].items()
                if name != "*" and len(files) > 1]

    def shared_structs(self):
        return sorted((name for name in self.declared if len(self.writers_of(name)) > 1),
                      key=lambda name: (-len(self.writers_of(name)), name))


def points(member):
    return member.is_pointer and not member.is_array


def find_closed(text, at):
    depth = 1
    while depth and at < len(text):
        depth += (text[at] == "(") - (text[at] == ")")
        at += 1
    return at - 1
