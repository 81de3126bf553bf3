# SPDX-License-Identifier: Apache-2.0
"""Writes models of ONNX for the tests of engine onnx into a folder, as .onnx, and some as .ort.
Exits with 77 where onnx or onnxruntime is not installed.

usage: onnx_models.py FOLDER [MIB [echo]]    with MIB, models with weights of that size instead
"""
import pathlib
import sys

try:
    import numpy
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper
except ImportError:
    sys.exit(77)

FOLDER = pathlib.Path(sys.argv[1])
TYPES = {"BOOL": TensorProto.BOOL, "UINT8": TensorProto.UINT8, "UINT16": TensorProto.UINT16,
         "UINT32": TensorProto.UINT32, "UINT64": TensorProto.UINT64, "INT8": TensorProto.INT8,
         "INT16": TensorProto.INT16, "INT32": TensorProto.INT32, "INT64": TensorProto.INT64,
         "FP16": TensorProto.FLOAT16, "BF16": TensorProto.BFLOAT16, "FP32": TensorProto.FLOAT,
         "FP64": TensorProto.DOUBLE, "BYTES": TensorProto.STRING}
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def tensor(name, dtype, shape):
    return helper.make_tensor_value_info(name, dtype, shape)


def model(nodes, inputs, outputs, weights=None, name="g"):
    graph = helper.make_graph(nodes, name, inputs, outputs,
                              [numpy_helper.from_array(array, name)
                               for name, array in (weights or {}).items()])
    # What ONNX Runtime 1.17 reads as well.
    return helper.make_model(graph, ir_version=8, opset_imports=[
        helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)])


def save(name, *arguments):
    path = FOLDER / f"{name}.onnx"
    onnx.save(model(*arguments), path)
    return path


def convert(path):
    """The .ort file, with the weights laid out as this machine's kernels take them."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.optimized_model_filepath = str(path.with_suffix(".ort"))
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def linear(name, scale):
    """y = x W + b, W of 4x2."""
    weights = {"W": numpy.arange(8, dtype=numpy.float32).reshape(4, 2) * numpy.float32(scale),
               "b": numpy.array([1, -1], numpy.float32)}
    convert(save(name, [helper.make_node("Gemm", ["x", "W", "b"], ["y"])],
                 [tensor("x", FLOAT, ["n", 4])], [tensor("y", FLOAT, ["n", 2])], weights))


def large(mib):
    """Layers that multiply by 2048x2048, 16 MiB each, then the first ten columns."""
    layers = max(1, mib // 16)
    numbers = numpy.random.default_rng(1)
    weights = {f"W{i}": (numbers.standard_normal((2048, 2048)) / 45).astype(numpy.float32)
               for i in range(layers)}
    nodes = []
    for i in range(layers):
        nodes += [helper.make_node("MatMul", [f"h{i}" if i else "x", f"W{i}"], [f"m{i}"]),
                  helper.make_node("Tanh", [f"m{i}"], [f"h{i + 1}"])]
    weights |= {"from": numpy.array([0]), "to": numpy.array([10]), "axis": numpy.array([1])}
    nodes.append(helper.make_node("Slice", [f"h{layers}", "from", "to", "axis"], ["y"]))
    convert(save("large", nodes, [tensor("x", FLOAT, ["n", 2048])],
                 [tensor("y", FLOAT, ["n", 10])], weights))


def many(shift):
    """Operators of every kind with weights of every datatype, which lie `shift` bytes further than
    in many0.onnx: whatever reads them where they are gets addresses that are no multiples. In
    manyopen.onnx the outputs have no rank."""
    numbers = numpy.random.default_rng(3)
    weights, nodes, outputs = {}, [], []

    def weight(name, *shape, dtype=numpy.float32, scale=.1):
        data = numbers.standard_normal(shape) * scale
        weights[name] = (data if numpy.dtype(dtype).kind == "f" else data * 100).astype(dtype)
        return name

    def node(operator, inputs, output=None, is_told=True, dtype=FLOAT, **attributes):
        output = output or f"y{len(nodes)}"
        nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        if is_told:
            outputs.append(tensor(output, dtype, None))
        return output

    def constant(name, values, dtype=numpy.int64):
        weights[name] = numpy.array(values, dtype)
        return name

    wide = node("MatMul", ["x", weight("wide", 64, 1024)])
    node("Gemm", ["x", weight("g1", 64, 40), ""])
    node("Gemm", ["x", weight("g2", 1024, 64), weight("g3", 1024)], transB=1)
    for operator in ("Add", "Mul", "Sub", "Max", "PRelu"):
        node(operator, [wide, weight(operator, 1024)])
    node("Div", [wide, weight("div", 1024, scale=9)])
    node("LayerNormalization", [wide, weight("l1", 1024), weight("l2", 1024)])
    node("BatchNormalization", [wide, *(weight(f"b{i}", 1024) for i in range(3)),
                                constant("b3", [1] * 1024, numpy.float32)])
    biased = node("Add", [wide, weight("gelu", 1024)], is_told=False)
    halved = node("Div", [biased, constant("root", 2 ** .5, numpy.float32)], is_told=False)
    more = node("Add", [node("Erf", [halved], is_told=False),
                        constant("one", 1, numpy.float32)], is_told=False)
    node("Mul", [node("Mul", [biased, more], is_told=False),
                 constant("half", .5, numpy.float32)])
    picture = node("Reshape", ["x", constant("s1", [-1, 4, 4, 4])], is_told=False)
    node("Conv", [picture, weight("k1", 32, 4, 3, 3)], pads=[1] * 4)
    node("ConvTranspose", [picture, weight("k2", 4, 32, 3, 3)])
    node("Conv", [node("Reshape", ["x", constant("s2", [-1, 64, 1, 1])], is_told=False),
                  weight("k3", 64, 1, 5, 5)], group=64, pads=[2] * 4)
    ids = node("Cast", [node("Abs", ["x"], is_told=False)], is_told=False, to=INT64)
    node("Gather", [weight("table", 64, 33), ids])
    double = node("Cast", [wide], is_told=False, to=TensorProto.DOUBLE)
    node("MatMul", [double, weight("d1", 1024, 5, dtype=numpy.float64)], dtype=TensorProto.DOUBLE)
    node("Add", [double, weight("d2", 1024, dtype=numpy.float64)], dtype=TensorProto.DOUBLE)
    node("Add", [node("Cast", [wide], is_told=False, to=INT64),
                 weight("i1", 1024, dtype=numpy.int64)], dtype=INT64)
    node("Mul", [node("Cast", [wide], is_told=False, to=TensorProto.INT32),
                 weight("i2", 1024, dtype=numpy.int32)], dtype=TensorProto.INT32)
    node("Cast", [node("Mul", [wide, node("Cast", [weight("h1", 2, 1, 1024, dtype=numpy.float16)],
                                          is_told=False, to=FLOAT)], is_told=False)], to=FLOAT)
    narrow = node("Cast", [node("Clip", ["x", constant("low", 0, numpy.float32),
                                         constant("high", 9, numpy.float32)], is_told=False)],
                  is_told=False, to=TensorProto.UINT8)
    node("MatMulInteger", [narrow, weight("q1", 64, 129, dtype=numpy.int8)],
         dtype=TensorProto.INT32)
    node("MatMul", ["x", node("DequantizeLinear", [weight("q2", 64, 129, dtype=numpy.int8),
                                                   constant("q3", .5, numpy.float32)],
                              is_told=False)])
    step = node("Reshape", ["x", constant("s3", [1, -1, 64])], is_told=False)
    node("LSTM", [step, weight("r1", 1, 128, 64), weight("r2", 1, 128, 32)], hidden_size=32)
    node("GRU", [step, weight("r3", 1, 96, 64), weight("r4", 1, 96, 32)], hidden_size=32)
    yes, no = (helper.make_graph([helper.make_node("Mul", ["x", name], ["in"])], name,
                                 [], [tensor("in", FLOAT, None)])
               for name in (weight("yes", 32, 1, 64), weight("no", 32, 1, 64)))
    node("If", [constant("is", True, numpy.bool_)], then_branch=yes, else_branch=no)
    made = model(nodes, [tensor("x", FLOAT, ["n", 64])], outputs, weights, "g" * (shift + 1))
    if shift == 0:
        onnx.save(made, FOLDER / "manyopen.onnx")
    told = onnx.shape_inference.infer_shapes(made)
    del told.graph.value_info[:]
    onnx.save(told, FOLDER / f"many{shift}.onnx")


def echo(name, mib, value=0):
    """Answers with its input, to which it adds the first row of a table, which has only that in it
    besides its size: as quick as a small model."""
    table = numpy.zeros((mib << 16, 4), numpy.float32)
    table[0] = value
    weights = {"table": table, "first": numpy.array(0), "none": numpy.array(0, numpy.float32)}
    nodes = [helper.make_node("Gather", ["x", "first"], ["column"], axis=1),
             helper.make_node("Mul", ["column", "none"], ["zeros"]),
             helper.make_node("Cast", ["zeros"], ["rows"], to=INT64),
             helper.make_node("Gather", ["table", "rows"], ["found"]),
             helper.make_node("Add", ["x", "found"], ["y"])]
    convert(save(name, nodes, [tensor("x", FLOAT, ["n", 4])], [tensor("y", FLOAT, ["n", 4])],
                 weights))


def kinds():
    """What is no tensor."""
    sequence = helper.make_tensor_sequence_value_info("y", FLOAT, None)
    save("sequence", [helper.make_node("SequenceConstruct", ["x", "x"], ["y"])],
         [tensor("x", FLOAT, ["n", 4])], [sequence])
    sequence_in = helper.make_tensor_sequence_value_info("x", FLOAT, None)
    save("sequence_in", [helper.make_node("ConcatFromSequence", ["x"], ["y"], axis=0)],
         [sequence_in], [tensor("y", FLOAT, None)])
    maps = helper.make_value_info("y", helper.make_sequence_type_proto(
        helper.make_map_type_proto(INT64, helper.make_tensor_type_proto(FLOAT, None))))
    save("map", [helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml",
                                  classlabels_int64s=[0, 1, 2, 3])],
         [tensor("x", FLOAT, ["n", 4])], [maps])
    optional = helper.make_value_info("y", helper.make_optional_type_proto(
        helper.make_tensor_type_proto(FLOAT, ["n", 4])))
    save("optional", [helper.make_node("Optional", ["x"], ["y"])],
         [tensor("x", FLOAT, ["n", 4])], [optional])
    save("complex", [helper.make_node("Identity", ["x"], ["y"])],
         [tensor("x", TensorProto.COMPLEX64, ["n"])], [tensor("y", TensorProto.COMPLEX64, ["n"])])


def wrong():
    """What ONNX Runtime does not build."""
    save("operator", [helper.make_node("NoSuchOperator", ["x"], ["y"])],
         [tensor("x", FLOAT, ["n", 4])], [tensor("y", FLOAT, ["n", 2])])
    save("domain", [helper.make_node("Magic", ["x"], ["y"], domain="com.example")],
         [tensor("x", FLOAT, ["n", 4])], [tensor("y", FLOAT, ["n", 2])])
    save("types", [helper.make_node("Add", ["x", "i"], ["y"])],
         [tensor("x", FLOAT, ["n", 4])], [tensor("y", FLOAT, ["n", 4])],
         {"i": numpy.array([1])})
    save("missing", [helper.make_node("Add", ["x", "nobody"], ["y"])],
         [tensor("x", FLOAT, ["n", 4])], [tensor("y", FLOAT, ["n", 4])])
    save("shapes", [helper.make_node("MatMul", ["x", "W"], ["y"])],
         [tensor("x", FLOAT, ["n", 4])], [tensor("y", FLOAT, ["n", 2])],
         {"W": numpy.ones((3, 2), numpy.float32)})
    future = model([helper.make_node("Neg", ["x"], ["y"])],
                   [tensor("x", FLOAT, ["n", 4])], [tensor("y", FLOAT, ["n", 4])])
    future.opset_import[0].version = 9999
    onnx.save(future, FOLDER / "opset.onnx")
    future.opset_import[0].version = 17
    future.ir_version = 63
    onnx.save(future, FOLDER / "ir.onnx")
    beside = model([helper.make_node("Gemm", ["x", "W"], ["y"])],
                   [tensor("x", FLOAT, ["n", 4])], [tensor("y", FLOAT, ["n", 2])],
                   {"W": numpy.ones((4, 2), numpy.float32)})
    onnx.save(beside, FOLDER / "external.onnx", save_as_external_data=True,
              location="external.data", size_threshold=0)
    absolute = onnx.load(FOLDER / "external.onnx", load_external_data=False)
    absolute.graph.initializer[0].external_data[0].value = "/etc/passwd"
    onnx.save(absolute, FOLDER / "passwd.onnx")
    onnx.save(model([], [], []), FOLDER / "nothing.onnx")


def small():
    linear("linear", 1)
    linear("linear2", 2)
    for name, dtype in TYPES.items():
        save(f"same_{name}", [helper.make_node("Identity", ["x"], ["y"])],
             [tensor("x", dtype, ["n", "m"])], [tensor("y", dtype, ["n", "m"])])
    save("upper", [helper.make_node("LabelEncoder", ["x"], ["y"], domain="ai.onnx.ml",
                                    keys_strings=["one", ""], values_strings=["ONE", "none"],
                                    default_string="?")],
         [tensor("x", TensorProto.STRING, ["n"])], [tensor("y", TensorProto.STRING, ["n"])])
    save("scalar", [helper.make_node("Add", ["x", "one"], ["y"])], [tensor("x", FLOAT, [])],
         [tensor("y", FLOAT, [])], {"one": numpy.array(1, numpy.float32)})
    save("gather", [helper.make_node("Gather", ["table", "x"], ["y"])],
         [tensor("x", INT64, ["n"])], [tensor("y", FLOAT, ["n"])],
         {"table": numpy.array([10, 11, 12], numpy.float32)})
    save("two", [helper.make_node("Sub", ["a", "b"], ["less"]),
                 helper.make_node("Add", ["a", "b"], ["more"])],
         [tensor("a", FLOAT, ["n", 2]), tensor("b", FLOAT, ["n", 2])],
         [tensor("less", FLOAT, ["n", 2]), tensor("more", FLOAT, ["n", 2])])
    save("free", [helper.make_node("MatMul", ["x", "W"], ["y"])],
         [tensor("x", FLOAT, ["n", "m"])], [tensor("y", FLOAT, ["n", 2])],
         {"W": numpy.ones((4, 2), numpy.float32)})
    save("fixed", [helper.make_node("Neg", ["x"], ["y"])], [tensor("x", FLOAT, [2, 4])],
         [tensor("y", FLOAT, [2, 4])])
    # The sum of all products of two elements: a row of n takes 4 n^2 bytes.
    axes = {"last": numpy.array([2]), "both": numpy.array([1, 2])}
    save("square", [helper.make_node("Unsqueeze", ["x", "last"], ["column"]),
                    helper.make_node("Transpose", ["column"], ["row"], perm=[0, 2, 1]),
                    helper.make_node("MatMul", ["column", "row"], ["products"]),
                    helper.make_node("ReduceSum", ["products", "both"], ["y"], keepdims=0)],
         [tensor("x", FLOAT, ["n", "m"])], [tensor("y", FLOAT, ["n"])], axes)
    for shift in range(4):
        many(shift)
    ones = numpy.ones((64, 64), numpy.float32)
    made = model([helper.make_node("MatMul", ["x", "W"], ["y"])],
                 [tensor("x", FLOAT, ["n", 64])], [tensor("y", FLOAT, ["n", 64])], {"W": ones})
    made.graph.input.append(tensor("W", FLOAT, [64, 64]))
    onnx.save(made, FOLDER / "old.onnx")
    del made.graph.input[1:], made.graph.initializer[:]
    made.graph.initializer.append(helper.make_tensor("W", FLOAT, [64, 64], ones.flatten()))
    onnx.save(made, FOLDER / "listed.onnx")
    kinds()
    wrong()


if __name__ == "__main__":
    if len(sys.argv) > 2:
        echo("echo", int(sys.argv[2]))
        if "echo" not in sys.argv[3:]:
            echo("wrong", int(sys.argv[2]), 1)
            large(int(sys.argv[2]))
    else:
        small()
