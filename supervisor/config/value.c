/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Values of keys by type, each with the same five verbs: set, release, copy, compare,
 * print.
 *
 * A row says where the member lies and how wide it is (member()), and each verb
 * switches over the type alone, so no key has code of its own. Setting checks first and
 * stores last: after an error the old value stands, except that a list may be partly
 * filled. Numbers carry units in text and none in memory: nanoseconds, bytes. Printing
 * takes the largest unit that divides the value, so that printing and setting again
 * gives an equal value.
 */

#include "supervisor/config/value.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/cleanup.h"
#include "shared/tensor.h"
#include "supervisor/config/check.h"

/* Largest unit last: printing takes the largest that divides the value. */
struct unit {
	const char *suffix;
	uint64_t factor;
};

static const struct unit size_units[] = {
	{ "", 1 },
	{ "K", UINT64_C(1) << 10 },
	{ "M", UINT64_C(1) << 20 },
	{ "G", UINT64_C(1) << 30 },
	{ NULL, 0 },
};

static const struct unit duration_units[] = {
	{ "us", UINT64_C(1000) },         { "ms", UINT64_C(1000000) },
	{ "s", UINT64_C(1000000000) },    { "m", UINT64_C(60000000000) },
	{ "h", UINT64_C(3600000000000) }, { NULL, 0 },
};

static const struct unit no_units[] = { { "", 1 }, { NULL, 0 } };

static void *member(const struct config_key *key, void *object)
{
	return (char *)object + key->offset;
}

static const void *const_member(const struct config_key *key, const void *object)
{
	return (const char *)object + key->offset;
}

static size_t *member_count(const struct config_key *key, void *object)
{
	return (void *)((char *)object + key->count_offset);
}

static size_t const_member_count(const struct config_key *key, const void *object)
{
	return *(const size_t *)(const void *)((const char *)object + key->count_offset);
}

/* Members of a number type are 32 or 64 bits wide. */
static uint64_t load_number(const struct config_key *key, const void *object)
{
	if (key->bytes == sizeof(uint32_t))
		return *(const uint32_t *)const_member(key, object);
	return *(const uint64_t *)const_member(key, object);
}

static void store_number(const struct config_key *key, void *object, uint64_t value)
{
	if (key->bytes == sizeof(uint32_t))
		*(uint32_t *)member(key, object) = (uint32_t)value;
	else
		*(uint64_t *)member(key, object) = value;
}

static const struct unit *units_of(const struct config_key *key)
{
	if (key->type == CONFIG_TYPE_SIZE)
		return size_units;
	return key->type == CONFIG_TYPE_DURATION ? duration_units : no_units;
}

/* Reads a whole number and a unit. 0, -EINVAL, or -ERANGE. */
static int read_quantity(const char *text, const struct unit *units, uint64_t *ret_value)
{
	size_t digits = strspn(text, "0123456789");
	unsigned long long number;

	if (digits == 0)
		return -EINVAL;
	errno = 0;
	number = strtoull(text, NULL, 10);
	if (errno)
		return -ERANGE;
	/* 0 needs no unit. */
	if (number == 0 && text[digits] == '\0') {
		*ret_value = 0;
		return 0;
	}
	for (; units->suffix; units++) {
		if (strcmp(units->suffix, text + digits) != 0)
			continue;
		if (__builtin_mul_overflow((uint64_t)number, units->factor, ret_value))
			return -ERANGE;
		return 0;
	}
	return -EINVAL;
}

static void print_quantity(char *text, size_t size, uint64_t value,
                           const struct unit *units)
{
	const struct unit *best = units;

	for (; units->suffix; units++)
		if (value && value % units->factor == 0)
			best = units;
	(void)snprintf(text, size, "%llu%s", (unsigned long long)(value / best->factor),
	               value ? best->suffix : "");
}

/* Appends @join, but for the first time, and @word to @text. */
static void append(char *text, size_t size, const char *join, const char *word)
{
	size_t used = strnlen(text, size);

	(void)snprintf(text + used, size - used, "%s%s", used ? join : "", word);
}

static void print_words(const struct config_word *words, char *text, size_t size)
{
	text[0] = '\0';
	for (; words->text; words++)
		append(text, size, words[1].text ? ", " : " or ", words->text);
}

const char *config_value_allowed(const struct config_key *key, char *text, size_t size)
{
	char min[32];
	char max[32];

	switch (key->type) {
	case CONFIG_TYPE_STRING:
		(void)snprintf(text, size, "%s", key->value);
		break;
	case CONFIG_TYPE_PATH:
		(void)snprintf(text, size, "a path");
		break;
	case CONFIG_TYPE_UINT:
	case CONFIG_TYPE_SIZE:
	case CONFIG_TYPE_DURATION:
		print_quantity(min, sizeof(min), key->min, units_of(key));
		print_quantity(max, sizeof(max), key->max, units_of(key));
		(void)snprintf(text, size, "%s to %s%s%s", min, max, key->unit ? " " : "",
		               key->unit ? key->unit : "");
		break;
	case CONFIG_TYPE_BOOL:
		(void)snprintf(text, size, "yes or no");
		break;
	case CONFIG_TYPE_ENUM:
		print_words(key->words, text, size);
		break;
	case CONFIG_TYPE_NAMES:
		(void)snprintf(text, size, "up to %llu names, separated by commas",
		               (unsigned long long)key->max);
		break;
	case CONFIG_TYPE_TENSOR:
		(void)snprintf(text, size, "up to %llu lines of NAME DATATYPE [d,d,...]",
		               (unsigned long long)key->max);
		break;
	case CONFIG_TYPE_OPTION:
		(void)snprintf(text, size, "any text, in up to %llu lines",
		               (unsigned long long)key->max);
		break;
	}
	return text;
}

static int set_string(const struct config_key *key, void *object,
                      const struct config_setting *setting, struct err *err)
{
	FREE char *text = NULL;
	char **target = member(key, object);
	int r;

	if (key->type == CONFIG_TYPE_PATH && setting->text[0] != '/') {
		if (asprintf(&text, "%s/%s", setting->dir, setting->text) < 0) {
			text = NULL; /* undefined after asprintf() */
			return -ENOMEM;
		}
	} else {
		text = strdup(setting->text);
		if (!text)
			return -ENOMEM;
	}
	if (key->type == CONFIG_TYPE_PATH && strlen(text) >= PATH_MAX)
		return err_set(err, -EINVAL, "the path is longer than %d bytes",
		               PATH_MAX - 1);
	if (key->check) {
		r = key->check(text, err);
		if (r < 0)
			return r;
	}
	free(*target);
	*target = take_ptr(&text);
	return 0;
}

static int set_number(const struct config_key *key, void *object, const char *text,
                      struct err *err)
{
	const char *what = "no whole number";
	char allowed[80];
	uint64_t value;
	int r;

	if (key->type == CONFIG_TYPE_SIZE)
		what = "no size (a whole number, with K, M or G)";
	else if (key->type == CONFIG_TYPE_DURATION)
		what = "no duration (a whole number with us, ms, s, m or h)";
	r = read_quantity(text, units_of(key), &value);
	if (r == 0 && (value < key->min || value > key->max))
		r = -ERANGE;
	if (r < 0)
		return err_set(err, -EINVAL, "'%.80s' is %s: allowed is %s", text,
		               r == -ERANGE ? "out of range" : what,
		               config_value_allowed(key, allowed, sizeof(allowed)));
	store_number(key, object, value);
	return 0;
}

static int set_bool(const struct config_key *key, void *object, const char *text,
                    struct err *err)
{
	static const char *const words[] = { "no", "yes", "false", "true",
		                             "0",  "1",   "off",   "on" };

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(words[i], text) != 0)
			continue;
		*(bool *)member(key, object) = i % 2 == 1;
		return 0;
	}
	return err_set(err, -EINVAL, "'%.80s' is neither yes nor no", text);
}

static int set_enum(const struct config_key *key, void *object, const char *text,
                    struct err *err)
{
	char allowed[160];

	for (const struct config_word *word = key->words; word->text; word++) {
		if (strcmp(word->text, text) != 0)
			continue;
		memcpy(member(key, object), &word->value, sizeof(word->value));
		return 0;
	}
	return err_set(err, -EINVAL, "'%.80s' is not known: allowed are %s", text,
	               config_value_allowed(key, allowed, sizeof(allowed)));
}

static int add_name(const struct config_key *key, void *object, const char *name,
                    struct err *err)
{
	char **names = member(key, object);
	size_t *count = member_count(key, object);
	int r = config_check_name(name, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < *count; i++)
		if (strcmp(names[i], name) == 0)
			return err_set(err, -EINVAL, "'%s' is named twice", name);
	if (*count == key->max)
		return err_set(err, -EINVAL, "more than %llu names",
		               (unsigned long long)key->max);
	names[*count] = strdup(name);
	if (!names[*count])
		return -ENOMEM;
	(*count)++;
	return 0;
}

static int set_names(const struct config_key *key, void *object, const char *text,
                     struct err *err)
{
	FREE char *copy = strdup(text);
	char *rest = copy;
	char *name;
	int r;

	if (!copy)
		return -ENOMEM;
	config_value_fini(key, object);
	while ((name = strsep(&rest, ",")) != NULL) {
		name += strspn(name, " \t");
		name[strcspn(name, " \t")] = '\0';
		r = add_name(key, object, name, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int add_tensor(const struct config_key *key, void *object, const char *text,
                      struct err *err)
{
	struct tensor_spec *specs = member(key, object);
	size_t *count = member_count(key, object);
	struct tensor_spec spec;
	int r = tensor_spec_parse(text, &spec, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < *count; i++)
		if (strcmp(specs[i].name, spec.name) == 0)
			return err_set(
				err, -EINVAL,
				"'%s' is declared twice: each %s needs its own name",
				spec.name, key->name);
	if (*count == key->max)
		return err_set(err, -EINVAL, "more than %llu of them",
		               (unsigned long long)key->max);
	specs[(*count)++] = spec;
	return 0;
}

static int add_option(const struct config_key *key, void *object,
                      const struct config_setting *setting, struct err *err)
{
	struct config_option *options = member(key, object);
	size_t *count = member_count(key, object);
	const char *name = setting->name + strlen(key->name);
	struct config_option option;
	int r = config_check_name(name, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < *count; i++)
		if (strcmp(options[i].name, name) == 0)
			return err_set(err, -EINVAL,
			               "is set twice: keep one of the lines");
	if (*count == key->max)
		return err_set(err, -EINVAL, "more than %llu options",
		               (unsigned long long)key->max);
	option.name = strdup(name);
	option.value = strdup(setting->text);
	if (!option.name || !option.value) {
		free(option.name);
		free(option.value);
		return -ENOMEM;
	}
	options[(*count)++] = option;
	return 0;
}

int config_value_set(const struct config_key *key, void *object,
                     const struct config_setting *setting, struct err *err)
{
	char allowed[200];

	if (setting->text[0] == '\0' && key->type != CONFIG_TYPE_OPTION)
		return err_set(err, -EINVAL, "has no value: allowed is %s",
		               config_value_allowed(key, allowed, sizeof(allowed)));
	switch (key->type) {
	case CONFIG_TYPE_STRING:
	case CONFIG_TYPE_PATH:
		return set_string(key, object, setting, err);
	case CONFIG_TYPE_UINT:
	case CONFIG_TYPE_SIZE:
	case CONFIG_TYPE_DURATION:
		return set_number(key, object, setting->text, err);
	case CONFIG_TYPE_BOOL:
		return set_bool(key, object, setting->text, err);
	case CONFIG_TYPE_ENUM:
		return set_enum(key, object, setting->text, err);
	case CONFIG_TYPE_NAMES:
		return set_names(key, object, setting->text, err);
	case CONFIG_TYPE_TENSOR:
		return add_tensor(key, object, setting->text, err);
	case CONFIG_TYPE_OPTION:
		return add_option(key, object, setting, err);
	}
	return -EINVAL;
}

void config_value_fini(const struct config_key *key, void *object)
{
	struct config_option *options = member(key, object);
	char **texts = member(key, object);
	size_t *count = member_count(key, object);

	switch (key->type) {
	case CONFIG_TYPE_STRING:
	case CONFIG_TYPE_PATH:
		free(texts[0]);
		texts[0] = NULL;
		return;
	case CONFIG_TYPE_NAMES:
		for (size_t i = 0; i < *count; i++)
			free(texts[i]);
		break;
	case CONFIG_TYPE_OPTION:
		for (size_t i = 0; i < *count; i++) {
			free(options[i].name);
			free(options[i].value);
		}
		break;
	case CONFIG_TYPE_TENSOR:
		break;
	case CONFIG_TYPE_UINT:
	case CONFIG_TYPE_SIZE:
	case CONFIG_TYPE_DURATION:
	case CONFIG_TYPE_BOOL:
	case CONFIG_TYPE_ENUM:
		return;
	}
	*count = 0;
}

static bool text_equal(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static bool tensor_equal(const struct tensor_spec *a, const struct tensor_spec *b)
{
	return strcmp(a->name, b->name) == 0 && a->dtype == b->dtype &&
	       a->shape.rank == b->shape.rank &&
	       memcmp(a->shape.dims, b->shape.dims, a->shape.rank * sizeof(int64_t)) == 0;
}

/* Compares elements @i of both arrays. */
static bool element_equal(const struct config_key *key, const void *a, const void *b,
                          size_t i)
{
	const char *const *texts_a = a;
	const char *const *texts_b = b;
	const struct tensor_spec *specs_a = a;
	const struct tensor_spec *specs_b = b;
	const struct config_option *options_a = a;
	const struct config_option *options_b = b;

	if (key->type == CONFIG_TYPE_NAMES)
		return text_equal(texts_a[i], texts_b[i]);
	if (key->type == CONFIG_TYPE_TENSOR)
		return tensor_equal(&specs_a[i], &specs_b[i]);
	return text_equal(options_a[i].name, options_b[i].name) &&
	       text_equal(options_a[i].value, options_b[i].value);
}

int config_value_copy(const struct config_key *key, void *to, const void *from)
{
	const char *text = NULL;
	char *copy = NULL;

	assert(key->type != CONFIG_TYPE_NAMES && key->type != CONFIG_TYPE_TENSOR &&
	       key->type != CONFIG_TYPE_OPTION);
	if (key->type != CONFIG_TYPE_STRING && key->type != CONFIG_TYPE_PATH) {
		memcpy(member(key, to), const_member(key, from), key->bytes);
		return 0;
	}
	memcpy(&text, const_member(key, from), sizeof(text));
	if (text && !(copy = strdup(text)))
		return -ENOMEM;
	config_value_fini(key, to);
	memcpy(member(key, to), &copy, sizeof(copy));
	return 0;
}

bool config_value_equal(const struct config_key *key, const void *a, const void *b)
{
	const void *member_a = const_member(key, a);
	const void *member_b = const_member(key, b);
	size_t count;

	switch (key->type) {
	case CONFIG_TYPE_STRING:
	case CONFIG_TYPE_PATH:
		return text_equal(*(const char *const *)member_a,
		                  *(const char *const *)member_b);
	case CONFIG_TYPE_UINT:
	case CONFIG_TYPE_SIZE:
	case CONFIG_TYPE_DURATION:
	case CONFIG_TYPE_BOOL:
	case CONFIG_TYPE_ENUM:
		return memcmp(member_a, member_b, key->bytes) == 0;
	case CONFIG_TYPE_NAMES:
	case CONFIG_TYPE_TENSOR:
	case CONFIG_TYPE_OPTION:
		break;
	}
	count = const_member_count(key, a);
	if (const_member_count(key, b) != count)
		return false;
	for (size_t i = 0; i < count; i++)
		if (!element_equal(key, member_a, member_b, i))
			return false;
	return true;
}

static json_t *names_to_json(const struct config_key *key, const void *object)
{
	const char *const *names = const_member(key, object);
	size_t count = const_member_count(key, object);
	char text[CONFIG_NAMES_MAX * (CONFIG_NAME_MAX + 2)];

	text[0] = '\0';
	for (size_t i = 0; i < count; i++)
		append(text, sizeof(text), ", ", names[i]);
	return count ? json_string(text) : json_null();
}

static json_t *tensors_to_json(const struct config_key *key, const void *object)
{
	const struct tensor_spec *specs = const_member(key, object);
	json_t *array = json_array();

	for (size_t i = 0; i < const_member_count(key, object); i++) {
		char shape[TENSOR_RANK_MAX * 21 + 3];
		json_t *text = json_sprintf("%s %s %s", specs[i].name,
		                            tensor_dtype_name(specs[i].dtype),
		                            tensor_shape_print(&specs[i].shape, shape,
		                                               sizeof(shape)));

		if (json_array_append_new(array, text) < 0) {
			json_decref(array);
			return NULL;
		}
	}
	return array;
}

static json_t *enum_to_json(const struct config_key *key, const void *object)
{
	int value;

	memcpy(&value, const_member(key, object), sizeof(value));
	for (const struct config_word *word = key->words; word->text; word++)
		if (word->value == value)
			return json_string(word->text);
	return json_null();
}

json_t *config_value_to_json(const struct config_key *key, const void *object)
{
	const char *text;
	char quantity[32];

	switch (key->type) {
	case CONFIG_TYPE_STRING:
	case CONFIG_TYPE_PATH:
		text = *(const char *const *)const_member(key, object);
		return text ? json_string(text) : json_null();
	case CONFIG_TYPE_UINT:
		return json_integer((json_int_t)load_number(key, object));
	case CONFIG_TYPE_SIZE:
	case CONFIG_TYPE_DURATION:
		print_quantity(quantity, sizeof(quantity), load_number(key, object),
		               units_of(key));
		return json_string(quantity);
	case CONFIG_TYPE_BOOL:
		return json_boolean(*(const bool *)const_member(key, object));
	case CONFIG_TYPE_ENUM:
		return enum_to_json(key, object);
	case CONFIG_TYPE_NAMES:
		return names_to_json(key, object);
	case CONFIG_TYPE_TENSOR:
		return tensors_to_json(key, object);
	case CONFIG_TYPE_OPTION:
		break;
	}
	return json_null();
}
