/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/numbers/shortest.h"

#include <dragonbox/dragonbox.h>

template <typename number> static struct shortest of(number value)
{
	const auto decimal =
		jkj::dragonbox::to_decimal(value, jkj::dragonbox::policy::sign::ignore,
	                                   jkj::dragonbox::policy::trailing_zero::remove);

	return { decimal.significand, decimal.exponent };
}

struct shortest shortest_float(float value)
{
	return of(value);
}

struct shortest shortest_double(double value)
{
	return of(value);
}
