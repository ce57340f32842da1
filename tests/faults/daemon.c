/* Put between the daemon and the C library: while there is a file of a failure's name in the folder named by
 * FAULTS, writes and syncs fail in that way. If there is a file "ahead", the wall clock is ahead by as many seconds
 * as it says. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int is_on(const char *failure) {
    const char *folder = getenv("FAULTS");
    char path[4096];
    if (folder == NULL || snprintf(path, sizeof path, "%s/%s", folder, failure) >= (int)sizeof path)
        return 0;
    int saved = errno;
    int on = access(path, F_OK) == 0;
    errno = saved;
    return on;
}

/* True if a write to this file is to fail; errno says how. */
static int fails(int fd) {
    struct stat status;
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode))
        return 0;
    errno = is_on("full") ? ENOSPC : is_on("write") ? EIO : 0;
    return errno != 0;
}

ssize_t write(int fd, const void *bytes, size_t count) {
    return fails(fd) ? -1 : syscall(SYS_write, fd, bytes, count);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) {
    return fails(fd) ? -1 : syscall(SYS_pwrite64, fd, bytes, count, offset);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
    return fails(fd) ? -1 : syscall(SYS_pwrite64, fd, bytes, count, offset);
}

int fsync(int fd) {
    if (is_on("sync")) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd) {
    if (is_on("sync")) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

/* How far the wall clock is ahead, in seconds. */
static long ahead(void) {
    const char *folder = getenv("FAULTS");
    char path[4096], text[32] = "";
    if (folder == NULL || snprintf(path, sizeof path, "%s/ahead", folder) >= (int)sizeof path)
        return 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t count = read(fd, text, sizeof text - 1);
    close(fd);
    return count > 0 ? strtol(text, NULL, 10) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = (int)syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && clock == CLOCK_REALTIME) {
        int saved = errno;
        time->tv_sec += ahead();
        errno = saved;
    }
    return result;
}
