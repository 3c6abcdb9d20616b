"""Elementary functions that vectorise: no branch, no call, no table, and the same bits on every machine.

`math.tanh` and its kin are calls, one number at a time, and keep the loop around them scalar. The forms here are
polynomials and quotients of polynomials in fused multiply-adds, with selects at the ends of their range: LLVM makes
SIMD of them in whatever loop they are inlined. `FORMS` has the form of each function of `math`; all are written for
any precision, and `compiled_scalar` makes them float64 or float32.

The coefficients are minimax, by Remez's exchange in 50 digits on the ranges written beside them, then rounded; they are
wrong by less than half an ulp of the function. With the roundings, the largest errors in some 10⁶ numbers each:

    exp 1.1    log 1.3    log1p 1.8    cosh 1.5    expm1 2.3    sinh, sin, cos, tanh, atan 2.6    erf, erfc 5.2 ulps

in either precision; for sin and cos where |x| <= 10⁹ (10⁵ in float32), and within [-1, 1] and an ulp for any x. Values
below the normal numbers become 0 in exp; log takes denormals. Infinities, NaN and overflow are as in C; the sign of a
zero is kept by odd functions that end in copysign.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

# Instructions that Numba has no word for. A float is a sign, an exponent and MANTISSA bits, in an integer of its size.

WHOLE = {"double": ir.IntType(64), "float": ir.IntType(32)}
MANTISSA = {"double": 52, "float": 23}


def _bits(builder, x):
    return builder.bitcast(x, WHOLE[str(x.type)])


@intrinsic
def fma(typingctx, x, y, z):
    """Compute x y + z, rounded once."""
    return z(z, z, z), lambda context, builder, signature, args: builder.fma(*args)


def polynomial(float64: tuple[float, ...], float32: tuple[float, ...]) -> Callable:
    """The polynomial c_0 + c_1 x + c_2 x² + …, with the coefficients for the precision of x.

    Even and odd powers are summed apart, each by Horner's rule in x²: half the wait, and fewer roundings in a row.
    """

    @intrinsic
    def sum_of_powers(typingctx, x):
        def code(context, builder, signature, args):
            (x,) = args
            coefficients = [ir.Constant(x.type, c) for c in (float64 if str(x.type) == "double" else float32)]
            square = builder.fmul(x, x)
            even, odd = coefficients[::2], coefficients[1::2]
            if not odd:
                return _horner(builder, square, even)
            return builder.fma(_horner(builder, square, odd), x, _horner(builder, square, even))

        return x(x), code

    return sum_of_powers


def _horner(builder, x, coefficients):
    last, *others = reversed(coefficients)
    return functools.reduce(lambda total, c: builder.fma(total, x, c), others, last)


def constant(float64: float, float32: float) -> Callable:
    """A constant that depends on the precision of x."""
    return polynomial((float64,), (float32,))


@intrinsic
def scaled(typingctx, x, t):
    """Compute x 2^k, where t = k + MAGIC has the integer k in its last bits; overflow and underflow go unseen."""

    def code(context, builder, signature, args):
        x, t = args
        shift = ir.Constant(WHOLE[str(x.type)], MANTISSA[str(x.type)])
        return builder.bitcast(builder.add(_bits(builder, x), builder.shl(_bits(builder, t), shift)), x.type)

    return t(t, t), code


@intrinsic
def signed(typingctx, x, t):
    """Compute x (-1)^k for such a t."""

    def code(context, builder, signature, args):
        x, t = args
        last = ir.Constant(WHOLE[str(x.type)], WHOLE[str(x.type)].width - 1)
        return builder.bitcast(builder.xor(_bits(builder, x), builder.shl(_bits(builder, t), last)), x.type)

    return t(t, t), code


@intrinsic
def split(typingctx, x):
    """Find m and k with x = m 2^k and √½ <= m < √2, for x > 0 that is not denormal."""

    def code(context, builder, signature, args):
        (x,) = args
        real, whole, mantissa = x.type, WHOLE[str(x.type)], MANTISSA[str(x.type)]
        root, one, unit = (ir.Constant(real, v).bitcast(whole) for v in (0.7071067690849304, 1.0, 2.0**mantissa))
        raised = builder.add(_bits(builder, x), builder.sub(one, root))
        m = builder.add(builder.and_(raised, ir.Constant(whole, 2**mantissa - 1)), root)
        exponent = builder.or_(builder.lshr(raised, ir.Constant(whole, mantissa)), unit)  # k + bias + 2^mantissa
        bias = 2 ** (whole.width - mantissa - 2) - 1
        k = builder.fsub(builder.bitcast(exponent, real), ir.Constant(real, 2.0**mantissa + bias))
        return context.make_tuple(builder, signature.return_type, [builder.bitcast(m, real), k])

    return types.UniTuple(x, 2)(x), code


MAGIC = constant(1.5 * 2**52, 1.5 * 2**23)  # adding it rounds a number to an integer, which its last bits show


# exp and what is made of it: x = k log 2 + r with |r| <= ½ log 2, and e^r - 1 = r + r² p(r).

LOG2_E = constant(1.4426950408889634, 1.442695)
LOG_2 = constant(0.6931471805599453, 0.6931472)
LOG_2_REST = constant(2.3190468138462996e-17, -1.9046542e-09)
EXP = polynomial(
    float64=(
        0.5000000000000006, 0.16666666666666685, 0.04166666666657749, 0.008333333333315034,
        0.0013888888931436407, 0.0001984126990220491, 2.4801505337526848e-05, 2.755722859205683e-06,
        2.762603879590984e-07, 2.5114298229933405e-08,
    ),
    float32=(
        0.5, 0.16666543, 0.041666284, 0.008366521, 0.0013946323,
    ),
)  # fmt: skip
EXP_NORMAL = constant(-708.396418532264, -87.33654)  # where e^x leaves the normal numbers
EXP_FINITE = constant(709.782712893384, 88.72283)  # … and where it overflows
SINH_INFINITE = constant(710.7, 89.6)


def _reduced(x):
    """Find t = k + MAGIC and e^r - 1."""
    t = fma(x, LOG2_E(x), MAGIC(x))
    k = t - MAGIC(x)
    r = fma(-k, LOG_2_REST(x), fma(-k, LOG_2(x), x))
    return t, fma(r * r, EXP(r), r)


def exp(x):
    """e^x."""
    x = 1.0 * x
    t, e = _reduced(x)
    y = scaled(1.0 + e, t)
    y = 0.0 if x < EXP_NORMAL(x) else y
    return y if x <= EXP_FINITE(x) else x + math.inf


def _quarter_of_expm1(x):
    """Compute (e^x - 1)/4: without overflow a little beyond where e^x has one."""
    t, e = _reduced(x)
    h = scaled(0.25, t)
    return fma(h, e, h - 0.25)


def expm1(x):
    """e^x - 1."""
    x = 1.0 * x
    x = SINH_INFINITE(x) if x > SINH_INFINITE(x) else x
    x = -40.0 if x < -40.0 else x
    return 4.0 * _quarter_of_expm1(x)


def tanh(x):
    """(1 - e^-2a)/(1 + e^-2a) with the sign of x, a = |x|."""
    x = 1.0 * x
    a = abs(x)
    a = 20.0 if a > 20.0 else a
    t, e = _reduced(-(a + a))
    h = scaled(1.0, t)
    n = fma(-h, e, 1.0 - h)  # 1 - e^-2a
    return math.copysign(n / (2.0 - n), x)


def sinh(x):
    """(e + e/(1 + e))/2 with the sign of x, e = e^|x| - 1."""
    x = 1.0 * x
    a = abs(x)
    a = SINH_INFINITE(x) if a > SINH_INFINITE(x) else a
    q = _quarter_of_expm1(a)
    return math.copysign(2.0 * (q + q / (1.0 + 4.0 * q)), x)


def cosh(x):
    """(e^|x| + e^-|x|)/2."""
    x = 1.0 * x
    a = abs(x)
    a = SINH_INFINITE(x) if a > SINH_INFINITE(x) else a
    t, e = _reduced(a)
    q = scaled(0.25 + 0.25 * e, t)
    return 2.0 * (q + 0.0625 / q)


# log: x = (1 + f) 2^k; with s = f/(2 + f), log(1 + f) = 2 artanh s = f - s (f - s² p(s²)).

LOG = polynomial(
    float64=(
        0.6666666666666735, 0.39999999999409136, 0.2857142874378137, 0.22222198414638347, 0.18183573329362548,
        0.1531380161636724, 0.14798618355806265,
    ),
    float32=(
        0.66666776, 0.3997756, 0.298719,
    ),
)  # fmt: skip
NORMAL = constant(2.0**-1022, 2.0**-126)
DIGITS = constant(52.0, 23.0)
UP = constant(2.0**52, 2.0**23)


def _log(f, k):
    s = f / (2.0 + f)
    w = s * s
    return fma(k, LOG_2(f), fma(-s, f - w * LOG(w), f))


def log(x):
    """The natural logarithm."""
    x = 1.0 * x
    denormal = x < NORMAL(x)
    m, k = split(x * UP(x) if denormal else x)
    y = _log(m - 1.0, k - DIGITS(x) if denormal else k)
    y = y if x < math.inf else x
    return y if x > 0.0 else (-math.inf if x == 0.0 else math.nan)


def log1p(x):
    """log(1 + x)."""
    x = 1.0 * x
    _, k = split(1.0 + x)
    h = 0.25 * scaled(4.0, MAGIC(x) - k)  # 2^-k
    y = _log(fma(h, x, h - 1.0), k)
    y = y if x < math.inf else x
    return y if x > -1.0 else (-math.inf if x == -1.0 else math.nan)


# erf(x) = x p(x²)/q(x²) until it rounds to 1, erfc(x) = e^-x² p(x)/q(x) for x >= 0.

ERF_ONE = constant(5.93, 3.93)
ERF_OVER = polynomial(
    float64=(
        2.0347886148295493, 0.3970134402973419, 0.11923238837186897, 0.012422738673323646,
        0.0015428982949747129, 0.00010267344835708525, 7.032881952157992e-06, 3.0557929919606866e-07,
        1.2188679347492568e-08, 3.1008813402200516e-10, 6.016519229451662e-12, 4.0160359574658785e-14,
        2.833991699814723e-17,
    ),
    float32=(
        1.9079218, 0.32258686, 0.08926051, 0.006390747, 0.0004815692, 3.4526763e-06,
    ),
)  # fmt: skip
ERF_UNDER = polynomial(
    float64=(
        1.8032844580666678, 0.9529388199136869, 0.24298478045914554, 0.03964575456787906, 0.004624611853863331,
        0.00040767651004475035, 2.7945466342564016e-05, 1.505606800970292e-06, 6.338741417564762e-08,
        2.027684962999602e-09, 4.596918575344219e-11, 5.985646871035474e-13, 1.5962915110915722e-15,
    ),
    float32=(
        1.6908517, 0.8495014, 0.19319241, 0.025358418, 0.0019701999, 6.425933e-05,
    ),
)  # fmt: skip
ERFC_OVER = polynomial(
    float64=(
        1.8371821067046092, 4.023814121313179, 4.359974651452181, 3.0013765188595714, 1.4324033930332118,
        0.48947662718616414, 0.11974769208942285, 0.020293528578577465, 0.0021781722069526086,
        0.00011445463816704126,
    ),
    float32=(
        1.4484262, 1.794967, 1.0609543, 0.33261684, 0.04763157,
    ),
)  # fmt: skip
ERFC_UNDER = polynomial(
    float64=(
        1.8371821067046092, 6.0968521366792805, 9.402353480639375, 8.895969514959015, 5.735859488285604,
        2.643062058366138, 0.8854579779435198, 0.21417761259534887, 0.03607077566583993, 0.0038607097160537774,
        0.000202865564173824,
    ),
    float32=(
        1.4484262, 3.4293418, 3.4821124, 1.9220876, 0.58958566, 0.084423766,
    ),
)  # fmt: skip


def erf(x):
    """The error function, 2/√π times the integral of e^-t² from 0 to x."""
    x = 1.0 * x
    a = abs(x)
    a = ERF_ONE(x) if a > ERF_ONE(x) else a
    y = a * ERF_OVER(a * a) / ERF_UNDER(a * a)
    return math.copysign(1.0 if y > 1.0 else y, x)


def erfc(x):
    """1 - erf x, to its last digits where that is small."""
    x = 1.0 * x
    a = abs(x)
    a = 27.0 if a > 27.0 else a
    square = x * x
    e = exp(-square)
    e = fma(-e, fma(x, x, -square), e) if square < 729.0 else e  # what x² lost when it was rounded
    y = e * ERFC_OVER(a) / ERFC_UNDER(a)
    return y if x > 0.0 else 2.0 - y


# sin: x = k π + r with |r| <= ½ π, and sin r = r + r³ p(r²).

ONE_OVER_PI = constant(0.3183098861837907, 0.31830987)
PI = constant(3.141592653589793, 3.1415927)
PI_REST = constant(1.2246467991473532e-16, -8.742278e-08)
PI_LAST = constant(-2.9947698097183397e-33, -3.430249e-15)
SIN = polynomial(
    float64=(
        -0.16666666666666666, 0.0083333333333332, -0.00019841269841208557, 2.7557319210738966e-06,
        -2.5052106817987783e-08, 1.6058936260554376e-10, -7.642887801379982e-13, 2.7199641499451554e-15,
    ),
    float32=(
        -0.16666658, 0.00833303, -0.0001980685, 2.5995182e-06,
    ),
)  # fmt: skip


def _sin(x, k, t):
    r = fma(-k, PI_LAST(x), fma(-k, PI_REST(x), fma(-k, PI(x), x)))
    r = 1.58 if r > 1.58 else r  # for huge x, r is anything
    r = -1.58 if r < -1.58 else r
    u = r * r
    return signed(fma(r * u, SIN(u), r), t)


def sin(x):
    """The sine."""
    x = 1.0 * x
    t = fma(x, ONE_OVER_PI(x), MAGIC(x))
    return _sin(x, t - MAGIC(x), t)


def cos(x):
    """The cosine, sin(|x| + π/2)."""
    x = 1.0 * x
    x = abs(x)
    t = fma(x, ONE_OVER_PI(x), 0.5) + MAGIC(x)
    return _sin(x, t - MAGIC(x) - 0.5, t)


# atan: about 0, 1 or ∞, with t = x, (x - 1)/(x + 1) or -1/x and atan t = t + t³ p(t²).

ATAN = polynomial(
    float64=(
        -0.3333333333333319, 0.19999999999952184, -0.14285714280054126, 0.11111110776302699,
        -0.0909089755107617, 0.07692056524953746, -0.0666306193991727, 0.05847581616630172,
        -0.05037912167956592, 0.03802901958043015, -0.017868108667651778,
    ),
    float32=(
        -0.33333316, 0.19998527, -0.14244345, 0.10598729, -0.060887404,
    ),
)  # fmt: skip
EIGHTH, THREE_EIGHTHS = math.tan(math.pi / 8), math.tan(3 * math.pi / 8)
QUARTER_PI, HALF_PI = math.pi / 4, math.pi / 2


def atan(x):
    """The arc tangent."""
    x = 1.0 * x
    a = abs(x)
    less, more = a - 1.0, a + 1.0
    over, under, base = (less, more, QUARTER_PI) if a > EIGHTH else (a, 1.0, 0.0)
    over, under, base = (-1.0, a, HALF_PI) if a > THREE_EIGHTHS else (over, under, base)
    t = over / under
    u = t * t
    return math.copysign(base + fma(t * u, ATAN(u), t), x)


FORMS: dict[Callable, Callable] = {
    getattr(math, form.__name__): form for form in (exp, expm1, tanh, sinh, cosh, log, log1p, erf, erfc, sin, cos, atan)
}
