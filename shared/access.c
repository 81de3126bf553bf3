/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/access.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Reads the file and asks no name service: a directory server may be slow, or down. */
const char *access_user(struct err *storage, uid_t uid)
{
	FILE *stream = fopen("/etc/passwd", "re");
	const struct passwd *row = NULL;

	(void)err_set(storage, 0, "%u", (unsigned int)uid);
	while (stream && (row = fgetpwent(stream)) && row->pw_uid != uid)
		;
	if (row)
		(void)err_set(storage, 0, "%u (%s)", (unsigned int)uid, row->pw_name);
	if (stream)
		(void)fclose(stream);
	return storage->text;
}

static bool access_may(const char *path, int want)
{
	return faccessat(AT_FDCWD, path, want, AT_EACCESS) == 0;
}

/* Looks for the first directory on the way that may not be passed, then at the file itself.
 * @culprit becomes the one that forbids, *ret_want what it would have to allow. False: none
 * forbids it. */
static bool access_find(const char *path, int want, char *culprit, int *ret_want)
{
	size_t bytes = strlen(path);

	for (size_t i = 1; i <= bytes && bytes < PATH_MAX; i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		memcpy(culprit, path, i);
		culprit[i] = '\0';
		if (path[i] == '\0')
			break;
		*ret_want = X_OK;
		if (!access_may(culprit, X_OK))
			return true;
	}
	*ret_want = want;
	if (access_may(culprit, F_OK))
		return !access_may(culprit, want);
	/* The file is not there: its directory would have to allow making it. */
	*strrchr(culprit, '/') = '\0';
	if (!*culprit)
		(void)strcpy(culprit, "/");
	*ret_want = W_OK | X_OK;
	return !access_may(culprit, W_OK | X_OK);
}

static const char *access_rights(int want)
{
	static const char *const names[] = { "", "x", "w", "wx", "r", "rx", "rw", "rwx" };

	return names[want & 7];
}

static bool access_make_absolute(const char *path, char *ret_path)
{
	size_t used = 0;

	if (path[0] != '/' && getcwd(ret_path, PATH_MAX - 1)) {
		used = strlen(ret_path);
		ret_path[used++] = '/';
	}
	return (size_t)snprintf(ret_path + used, PATH_MAX - used, "%s", path) <
	               PATH_MAX - used &&
	       ret_path[0] == '/';
}

static const char *access_explain(struct err *storage, const char *path, int want,
                                  const char *error)
{
	char absolute[PATH_MAX] = "";
	char culprit[PATH_MAX + 1] = "/";
	struct err user;
	struct err owner;
	struct stat st;

	(void)access_user(&user, geteuid());
	if (!access_make_absolute(path, absolute) ||
	    !access_find(absolute, want, culprit, &want) || stat(culprit, &st) < 0) {
		(void)err_set(
			storage, 0,
			"%s for user %.40s, as whom %s runs, although owner and mode "
			"allow it: look at AppArmor, SELinux and how it is mounted",
			error, user.text, program_invocation_short_name);
		return storage->text;
	}
	(void)access_user(&owner, st.st_uid);
	(void)err_set(
		storage, 0,
		"%s for user %.40s, as whom %s runs: %.150s belongs to user %.40s, group "
		"%u, with mode %04o: give it to a group of that user (chgrp) and chmod "
		"g+%s it, or chown it",
		error, user.text, program_invocation_short_name, culprit, owner.text,
		(unsigned int)st.st_gid, (unsigned int)(st.st_mode & 07777),
		access_rights(want));
	return storage->text;
}

const char *access_why(struct err *storage, const char *path, int want, int error)
{
	int kept = errno;

	if (error == EACCES || error == EPERM)
		(void)access_explain(storage, path, want, strerror(error));
	else if (error == EROFS)
		(void)err_set(
			storage, 0,
			"%s: mount it to be written to, or name it in ReadWritePaths= "
			"of moultd.service",
			strerror(error));
	else
		(void)err_set(storage, 0, "%s", strerror(error));
	errno = kept;
	return storage->text;
}
