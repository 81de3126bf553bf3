/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The order counts: what root is needed for is given to the user first, then groups and user change,
 * then the rights that loader_users takes are put into reserve, where no call of moultd's uses them
 * by mistake. privileges_lend() hands one of them to the next child that is started, and
 * privileges_call_as() uses it in a copy of moultd.
 */
#include "supervisor/process/privileges.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/capability.h>

#include "shared/log.h"
#include "shared/user.h"

static int privileges_find(const char *user, const struct passwd **ret_entry,
                           struct err *err)
{
	/* getpwnam() is not reentrant: moultd calls it at the start, in one thread. */
	const struct passwd *entry = getpwnam(user);

	if (!entry)
		return err_set(err, -EINVAL,
		               "user: there is no user '%.64s' here: create it, or name "
		               "another one",
		               user);
	if (entry->pw_uid == 0)
		return err_set(err, -EINVAL,
		               "user: '%.64s' is root by another name: name an ordinary "
		               "user, or root itself",
		               user);
	*ret_entry = entry;
	return 0;
}

/* Whether nothing is to be given up. */
static bool privileges_are_kept(const char *user)
{
	return !user || strcmp(user, "root") == 0;
}

int privileges_check(const char *user, struct err *err)
{
	const struct passwd *entry = NULL;
	int r;

	if (!user && geteuid() == 0)
		return err_set(err, -EINVAL,
		               "user: root started moultd, and models would have all of "
		               "root's rights: say in [supervisor] user = NAME, an "
		               "ordinary user, or user = root if that is meant");
	if (privileges_are_kept(user))
		return 0;
	r = privileges_find(user, &entry, err);
	if (r == 0 && geteuid() != 0 && geteuid() != entry->pw_uid)
		return err_set(
			err, -EINVAL,
			"user: moultd runs as user %u and cannot become '%.64s': start "
			"it as root or as that user, or take the line out",
			(unsigned int)geteuid(), user);
	return r;
}

static int privileges_give(const char *path, const struct passwd *entry, struct err *err)
{
	if (lchown(path, entry->pw_uid, entry->pw_gid) == 0)
		return 0;
	return err_set(err, -errno, "%s cannot be given to user '%.64s': %s", path,
	               entry->pw_name, strerror(errno));
}

/* A directory of another user than root stays as it is. */
static int privileges_give_state(const char *path, const struct passwd *entry,
                                 struct err *err)
{
	struct stat st;

	if (mkdir(path, 0750) < 0 && errno != EEXIST)
		return err_set(err, -errno, "state_dir %s: %s", path, strerror(errno));
	if (stat(path, &st) < 0 || st.st_uid != 0)
		return 0; /* the first write there fails with a reason */
	return privileges_give(path, entry, err);
}

/* The right to give a loader another user, in reserve, and that to signal it then. */
static int privileges_reserve(struct err *err)
{
	struct user_rights rights;
	int r = user_rights_get(&rights);

	rights.permitted &= USER_RIGHT(CAP_SETUID) | USER_RIGHT(CAP_KILL);
	rights.effective = rights.permitted & USER_RIGHT(CAP_KILL);
	rights.inheritable = rights.permitted;
	if (r == 0)
		r = user_rights_set(&rights);
	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	(void)prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0);
	return r ? err_set(err, -r, "loader_users: %s", strerror(r)) : 0;
}

void privileges_lend(bool is_lent)
{
	/* Whom root starts has its rights anyhow. */
	if (geteuid() != 0)
		(void)prctl(PR_CAP_AMBIENT,
		            is_lent ? PR_CAP_AMBIENT_RAISE : PR_CAP_AMBIENT_LOWER,
		            CAP_SETUID, 0, 0);
}

void privileges_call_as(uid_t uid, void (*call)(void))
{
	pid_t pid = fork();

	if (pid == 0) {
		/* A copy of moultd: nobody of that user is to look into it. */
		if (user_become(uid) == 0 && prctl(PR_SET_DUMPABLE, 0) == 0)
			call();
		_exit(0);
	}
	if (pid > 0)
		(void)waitpid(pid, NULL, 0);
}

static int privileges_become(const struct passwd *entry, bool has_users, struct err *err)
{
	/* The user of the files of a process changes, and rights go unless they are kept. */
	if (has_users)
		(void)prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
	/* The user's groups, too: those that may open GPUs, for instance. */
	if (initgroups(entry->pw_name, entry->pw_gid) < 0 ||
	    setresgid(entry->pw_gid, entry->pw_gid, entry->pw_gid) < 0 ||
	    setresuid(entry->pw_uid, entry->pw_uid, entry->pw_uid) < 0)
		return err_set(err, -errno, "user: cannot become '%.64s': %s",
		               entry->pw_name, strerror(errno));
	if (has_users && privileges_reserve(err) < 0)
		return -EPERM;
	if (setuid(0) == 0 || seteuid(0) == 0 || setgid(0) == 0 ||
	    geteuid() != entry->pw_uid || getegid() != entry->pw_gid)
		return err_set(
			err, -EPERM,
			"user: '%.64s' could become root again: take the capability "
			"to do so away from moultd",
			entry->pw_name);
	return 0;
}

/* Whoever is started with the rights has them in reserve alone, and who has none is told. */
static int privileges_look_at_users(const struct config *config, struct err *err)
{
	if (!config->loader_users)
		return 0;
	if (!user_may_change())
		log_event(LOG_LEVEL_WARNING, "no_loader_users",
		          "reason=\"moultd lacks the right to change users\" "
		          "action=\"start it as root, or give it CAP_SETUID and CAP_KILL "
		          "(systemd: AmbientCapabilities=)\"");
	return geteuid() == 0 ? 0 : privileges_reserve(err);
}

int privileges_drop(const struct config *config, const struct privileges_files *files,
                    struct err *err)
{
	const char *user = config->user;
	const struct passwd *entry = NULL;
	int r = privileges_check(user, err);

	if (r < 0)
		return r;
	if (privileges_are_kept(user)) {
		if (geteuid() == 0)
			log_event(LOG_LEVEL_WARNING, "runs_as_root",
			          "reason=\"user = root: models and their loaders have "
			          "root's rights on this machine\" action=\"name an "
			          "ordinary user there\"");
		return privileges_look_at_users(config, err);
	}
	r = privileges_find(user, &entry, err);
	if (r < 0 || geteuid() != 0)
		return r < 0 ? r : privileges_look_at_users(config, err);
	if (files)
		r = privileges_give_state(files->state_dir, entry, err);
	if (r == 0 && files)
		r = privileges_give(files->control, entry, err);
	if (r == 0)
		r = privileges_become(entry, config->loader_users != NULL, err);
	if (r == 0)
		r = privileges_look_at_users(config, err);
	if (r == 0)
		log_event(LOG_LEVEL_NOTICE, "user", "user=%s uid=%u gid=%u", user,
		          (unsigned int)entry->pw_uid, (unsigned int)entry->pw_gid);
	return r;
}

void privileges_close(void)
{
	static const struct rlimit none = { 0, 0 };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    setrlimit(RLIMIT_CORE, &none) < 0 || prctl(PR_SET_DUMPABLE, 0) < 0)
		log_event(LOG_LEVEL_WARNING, "not_closed",
		          "reason=%s hint=\"a loader of the same user may look into "
		          "moultd\"",
		          LOG_QUOTED(strerror(errno)));
}
