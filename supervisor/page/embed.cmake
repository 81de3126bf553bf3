# SPDX-License-Identifier: Apache-2.0
# cmake -DINPUT=page.html -DOUTPUT=template.c -P embed.cmake: a file as the array of template.h.
file(READ "${INPUT}" bytes HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
string(REGEX REPLACE "(................................................................................)"
	"\\1\n" bytes "${bytes}")
file(WRITE "${OUTPUT}" "#include \"supervisor/page/template.h\"\n
const unsigned char html_template[] = {\n${bytes}0x00\n};\n")
