/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Compares moult's declarations with those of a foreign header, by the compiler: equal in how
 * they are passed and in how much they point to. A difference does not compile, and the message
 * names the line.
 */

#include <cstddef>
#include <type_traits>

namespace abi
{

template <typename T, typename = void> struct size : std::integral_constant<size_t, 0> {
};
template <typename T>
struct size<T, std::void_t<decltype(sizeof(T))>>
    : std::integral_constant<size_t, std::is_void_v<T> ? 0 : sizeof(T)> {
};

/* True when both point to as many bytes; also where one of them hides that type. */
template <typename A, typename B> constexpr bool is_as_large()
{
	using To = std::remove_pointer_t<A>;
	using OurTo = std::remove_pointer_t<B>;

	return size<To>::value == 0 || size<OurTo>::value == 0 ||
	       size<To>::value == size<OurTo>::value;
}

/* True when both or none may change what they point to. */
template <typename A, typename B> constexpr bool is_as_constant()
{
	using To = std::remove_pointer_t<A>;
	using OurTo = std::remove_pointer_t<B>;

	if constexpr (std::is_pointer_v<To> && std::is_pointer_v<OurTo>)
		return std::is_const_v<To> == std::is_const_v<OurTo> &&
		       is_as_constant<To, OurTo>();
	else
		return std::is_const_v<To> == std::is_const_v<OurTo>;
}

template <typename A, typename B> constexpr bool is_same()
{
	if constexpr (std::is_pointer_v<A> && std::is_pointer_v<B>)
		return is_as_large<A, B>() && is_as_constant<A, B>();
	else
		return std::is_pointer_v<A> == std::is_pointer_v<B> &&
		       std::is_floating_point_v<A> == std::is_floating_point_v<B> &&
		       sizeof(A) == sizeof(B);
}

template <typename A, typename B> struct is_call : std::false_type {
};
template <typename R, typename... A, typename S, typename... B>
struct is_call<R (*)(A...), S (*)(B...)>
    : std::bool_constant<sizeof...(A) == sizeof...(B)> {
	static constexpr bool matches = is_same<R, S>() && (is_same<A, B>() && ...);
};

/* Compares calls in two steps: arguments one by one only where there are as many. */
template <typename A, typename B> constexpr bool is_same_call()
{
	if constexpr (is_call<A, B>::value)
		return is_call<A, B>::matches;
	else
		return false;
}

} /* namespace abi */

#define ABI_CALL(theirs, table, ours)                                                    \
	static_assert(abi::is_same_call<decltype(&theirs), decltype(table::ours)>(),     \
	              #theirs " is not " #ours)
#define ABI_VALUE(theirs, ours)                                                          \
	static_assert(static_cast<long>(theirs) == static_cast<long>(ours),              \
	              #theirs " is not " #ours)
#define ABI_FIELD(theirs, their_field, ours, our_field)                                  \
	static_assert(offsetof(theirs, their_field) == offsetof(ours, our_field) &&      \
	                      sizeof(theirs::their_field) == sizeof(ours::our_field),    \
	              #theirs "." #their_field " is not " #ours "." #our_field)
#define ABI_SIZE(theirs, ours) static_assert(sizeof(theirs) == sizeof(ours), #theirs)
