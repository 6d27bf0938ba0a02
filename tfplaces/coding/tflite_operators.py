"""The operators of LiteRT that networks from an image to a vector are made of: what each must have in its file.

The kernels and their parsers in LiteRT take much of it on trust. Operators with state, of control flow, of text and of
the user's own are not among them.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Operator:
    """What an operator must have.

    Attributes:
        name: in the schema's BuiltinOperator.
        options: the kind of its options in the schema's BuiltinOptions; 0: it has none, or does without.
        inputs: the least and the greatest number of them.
        outputs: likewise.
        integers: positions of the inputs that are axes, sides, steps or paddings: few integers.
        optional: positions of the inputs that may be left out by an index of −1.
        positive: fields of the options that its kernel divides by or counts with, and their defaults; where one is
            0, it cannot do without options.
        counted: "inputs" or "outputs" where field 0 of the options is the number of them.
        choices: fields of the options that are one of so many, as kinds of padding and of activation.
    """

    name: str
    options: int
    inputs: tuple[int, int]
    outputs: tuple[int, int] = (1, 1)
    integers: tuple[int, ...] = ()
    optional: tuple[int, ...] = ()
    positive: dict[int, int] = field(default_factory=dict)
    counted: str = ""
    choices: dict[int, int] = field(default_factory=dict)


_MANY = 4096
_PADDINGS, _ACTIVATIONS = 2, 6
_ONE, _TWO, _THREE = (1, 1), (2, 2), (3, 3)
# Steps, filters' sides or dilations, of which 0 is the default of the first two.
_CONV_2D = {1: 0, 2: 0, 4: 1, 5: 1}
_DEPTHWISE = {1: 0, 2: 0, 5: 1, 6: 1}
_STEPS = {1: 0, 2: 0}
_POOL_2D = {1: 0, 2: 0, 3: 0, 4: 0}
_CONV_2D_CHOICES, _DEPTHWISE_CHOICES = {0: _PADDINGS, 3: _ACTIVATIONS}, {0: _PADDINGS, 4: _ACTIVATIONS}
_POOL_2D_CHOICES = {0: _PADDINGS, 5: _ACTIVATIONS}

# By the number in the schema's BuiltinOperator.
OPERATORS = {
    0: Operator("ADD", 11, _TWO, choices={0: _ACTIVATIONS}),
    1: Operator("AVERAGE_POOL_2D", 5, _ONE, positive=_POOL_2D, choices=_POOL_2D_CHOICES),
    2: Operator("CONCATENATION", 10, (1, _MANY), choices={1: _ACTIVATIONS}),
    3: Operator("CONV_2D", 1, (2, 3), optional=(2,), positive=_CONV_2D, choices=_CONV_2D_CHOICES),
    4: Operator("DEPTHWISE_CONV_2D", 2, (2, 3), optional=(2,), positive=_DEPTHWISE, choices=_DEPTHWISE_CHOICES),
    5: Operator("DEPTH_TO_SPACE", 94, _ONE, positive={0: 0}),
    6: Operator("DEQUANTIZE", 38, _ONE),
    7: Operator("EMBEDDING_LOOKUP", 0, _TWO),
    8: Operator("FLOOR", 0, _ONE),
    9: Operator("FULLY_CONNECTED", 8, (2, 3), optional=(2,), choices={0: _ACTIVATIONS, 1: 2}),
    11: Operator("L2_NORMALIZATION", 12, _ONE, choices={0: _ACTIVATIONS}),
    12: Operator("L2_POOL_2D", 5, _ONE, positive=_POOL_2D, choices=_POOL_2D_CHOICES),
    13: Operator("LOCAL_RESPONSE_NORMALIZATION", 13, _ONE),
    14: Operator("LOGISTIC", 0, _ONE),
    17: Operator("MAX_POOL_2D", 5, _ONE, positive=_POOL_2D, choices=_POOL_2D_CHOICES),
    18: Operator("MUL", 21, _TWO, choices={0: _ACTIVATIONS}),
    19: Operator("RELU", 0, _ONE),
    20: Operator("RELU_N1_TO_1", 0, _ONE),
    21: Operator("RELU6", 0, _ONE),
    22: Operator("RESHAPE", 17, (1, 2), integers=(1,)),
    23: Operator("RESIZE_BILINEAR", 15, _TWO, integers=(1,)),
    25: Operator("SOFTMAX", 9, _ONE),
    26: Operator("SPACE_TO_DEPTH", 19, _ONE, positive={0: 0}),
    28: Operator("TANH", 0, _ONE),
    34: Operator("PAD", 22, _TWO, integers=(1,)),
    36: Operator("GATHER", 23, _TWO),
    37: Operator("BATCH_TO_SPACE_ND", 24, _THREE, integers=(1, 2)),
    38: Operator("SPACE_TO_BATCH_ND", 25, _THREE, integers=(1, 2)),
    39: Operator("TRANSPOSE", 26, _TWO, integers=(1,)),
    40: Operator("MEAN", 27, _TWO, integers=(1,)),
    41: Operator("SUB", 28, _TWO, choices={0: _ACTIVATIONS}),
    42: Operator("DIV", 29, _TWO, choices={0: _ACTIVATIONS}),
    43: Operator("SQUEEZE", 30, _ONE),
    45: Operator("STRIDED_SLICE", 32, (4, 4), integers=(1, 2, 3)),
    47: Operator("EXP", 33, _ONE),
    48: Operator("TOPK_V2", 34, _TWO, _TWO, integers=(1,)),
    49: Operator("SPLIT", 35, _TWO, (1, _MANY), integers=(0,), positive={0: 0}, counted="outputs"),
    50: Operator("LOG_SOFTMAX", 36, _ONE),
    53: Operator("CAST", 37, _ONE),
    54: Operator("PRELU", 0, _TWO),
    55: Operator("MAXIMUM", 39, _TWO),
    56: Operator("ARG_MAX", 40, _TWO, integers=(1,)),
    57: Operator("MINIMUM", 39, _TWO),
    58: Operator("LESS", 41, _TWO),
    59: Operator("NEG", 42, _ONE),
    60: Operator("PADV2", 43, _THREE, integers=(1,)),
    61: Operator("GREATER", 44, _TWO),
    62: Operator("GREATER_EQUAL", 45, _TWO),
    63: Operator("LESS_EQUAL", 46, _TWO),
    64: Operator("SELECT", 47, _THREE),
    65: Operator("SLICE", 48, _THREE, integers=(1, 2)),
    66: Operator("SIN", 0, _ONE),
    67: Operator(
        "TRANSPOSE_CONV", 49, (3, 4), integers=(0,), optional=(3,), positive={1: 0, 2: 0}, choices=_CONV_2D_CHOICES
    ),
    69: Operator("TILE", 51, _TWO, integers=(1,)),
    70: Operator("EXPAND_DIMS", 52, _TWO, integers=(1,)),
    71: Operator("EQUAL", 53, _TWO),
    72: Operator("NOT_EQUAL", 54, _TWO),
    73: Operator("LOG", 0, _ONE),
    74: Operator("SUM", 27, _TWO, integers=(1,)),
    75: Operator("SQRT", 0, _ONE),
    76: Operator("RSQRT", 0, _ONE),
    77: Operator("SHAPE", 55, _ONE),
    78: Operator("POW", 56, _TWO),
    79: Operator("ARG_MIN", 57, _TWO, integers=(1,)),
    80: Operator("FAKE_QUANT", 58, _ONE),
    81: Operator("REDUCE_PROD", 27, _TWO, integers=(1,)),
    82: Operator("REDUCE_MAX", 27, _TWO, integers=(1,)),
    83: Operator("PACK", 59, (1, _MANY), positive={0: 0}, counted="inputs"),
    84: Operator("LOGICAL_OR", 60, _TWO),
    85: Operator("ONE_HOT", 61, (4, 4), integers=(1,)),
    86: Operator("LOGICAL_AND", 62, _TWO),
    87: Operator("LOGICAL_NOT", 63, _ONE),
    88: Operator("UNPACK", 64, _ONE, (1, _MANY), positive={0: 0}, counted="outputs"),
    89: Operator("REDUCE_MIN", 27, _TWO, integers=(1,)),
    90: Operator("FLOOR_DIV", 65, _TWO),
    91: Operator("REDUCE_ANY", 27, _TWO, integers=(1,)),
    92: Operator("SQUARE", 66, _ONE),
    93: Operator("ZEROS_LIKE", 67, _ONE),
    94: Operator("FILL", 68, _TWO, integers=(0,)),
    95: Operator("FLOOR_MOD", 72, _TWO),
    96: Operator("RANGE", 73, _THREE),
    97: Operator("RESIZE_NEAREST_NEIGHBOR", 74, _TWO, integers=(1,)),
    98: Operator("LEAKY_RELU", 75, _ONE),
    99: Operator("SQUARED_DIFFERENCE", 76, _TWO),
    100: Operator("MIRROR_PAD", 77, _TWO, integers=(1,), choices={0: 2}),
    101: Operator("ABS", 78, _ONE),
    102: Operator("SPLIT_V", 79, _THREE, (1, _MANY), integers=(2,), positive={0: 0}, counted="outputs"),
    104: Operator("CEIL", 0, _ONE),
    105: Operator("REVERSE_V2", 81, _TWO, integers=(1,)),
    106: Operator("ADD_N", 82, (1, _MANY)),
    107: Operator("GATHER_ND", 83, _TWO),
    108: Operator("COS", 84, _ONE),
    110: Operator("RANK", 86, _ONE),
    111: Operator("ELU", 0, _ONE),
    114: Operator("QUANTIZE", 89, _ONE),
    116: Operator("ROUND", 0, _ONE),
    117: Operator("HARD_SWISH", 91, _ONE),
    123: Operator("SELECT_V2", 98, _THREE),
    126: Operator("BATCH_MATMUL", 101, _TWO),
    128: Operator("CUMSUM", 102, _TWO, integers=(1,)),
    130: Operator("BROADCAST_TO", 104, _TWO, integers=(1,)),
    140: Operator("REDUCE_ALL", 27, _TWO, integers=(1,)),
    145: Operator("BROADCAST_ARGS", 0, _TWO, integers=(0, 1)),
    150: Operator("GELU", 116, _ONE),
    152: Operator("RELU_0_TO_1", 0, _ONE),
    158: Operator("SIGN", 123, _ONE),
}
