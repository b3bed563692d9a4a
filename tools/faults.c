/* Makes the k-th call of the operating system that changes a file below one folder fail, or ends the process there.

   Preloaded (LD_PRELOAD); armed by faults_arm or by the variables RXMDNN_FAULT_FOLDER, _HOW, _AT, _RANK, _LOG.
   How: "count" only counts; "kill" ends the process before the call; "torn" lets half of a write through, then ends the
   process; "ENOSPC" and "EIO" make one call fail; "full" makes this call and all later ones that need space fail. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char folder[4096], how[16], log_to[4096];
static long at, counted;
static int armed, inside;

void faults_arm(const char *where, const char *what, long k, const char *log_file)
{
    snprintf(folder, sizeof folder, "%s", where);
    snprintf(how, sizeof how, "%s", what);
    snprintf(log_to, sizeof log_to, "%s", log_file ? log_file : "");
    at = k, counted = 0, armed = 1;
}

long faults_counted(void) { return counted; }

__attribute__((constructor)) static void begin(void)
{
    const char *where = getenv("RXMDNN_FAULT_FOLDER"), *what = getenv("RXMDNN_FAULT_HOW"), *k = getenv("RXMDNN_FAULT_AT");
    const char *wanted = getenv("RXMDNN_FAULT_RANK"), *rank = getenv("OMPI_COMM_WORLD_RANK");
    if (!rank) rank = getenv("PMIX_RANK");
    if (!where || !what || (wanted && (!rank || strcmp(wanted, rank)))) return;
    faults_arm(where, what, k ? atol(k) : 0, getenv("RXMDNN_FAULT_LOG"));
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static int below(const char *path)
{
    char whole[8192];
    if (path[0] != '/') {
        if (!getcwd(whole, 4096)) return 0;
        size_t n = strlen(whole);
        snprintf(whole + n, sizeof whole - n, "/%s", path);
        path = whole;
    }
    size_t n = strlen(folder);
    return !strncmp(path, folder, n) && (path[n] == '/' || !path[n]);
}

static int of_handle(int file, char *path)
{
    char name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", file);
    ssize_t n = readlink(name, path, 4095);
    if (n <= 0) return 0;
    path[n] = 0;
    return path[0] == '/' && below(path);
}

static void note(const char *call, const char *path)
{
    if (!log_to[0]) return;
    char line[4400];
    int n = snprintf(line, sizeof line, "%s %s\n", call, path);
    inside = 1;
    int file = open(log_to, O_WRONLY | O_CREAT | O_APPEND, 0644);
    if (file >= 0) { if (write(file, line, n) < 0) {} close(file); }
    inside = 0;
}

/* 0: go on; 1: fail with errno; 2: let half through, then end. */
static int due(const char *call, const char *path, int needs_space)
{
    counted++;
    if (!strcmp(how, "count")) { note(call, path); return 0; }
    if (!strcmp(how, "full") ? (counted < at || !needs_space) : counted != at) return 0;
    note(call, path);
    if (!strcmp(how, "kill")) { raise(SIGKILL); }
    if (!strcmp(how, "torn")) return 2;
    errno = strcmp(how, "EIO") ? ENOSPC : EIO;
    return 1;
}

#define BY_HANDLE(call, file, space) \
    char path[4096]; int act = 0; \
    if (armed && !inside && of_handle(file, path)) act = due(call, path, space); \
    if (act == 1) return -1;
#define BY_PATH(call, name, space) \
    int act = 0; \
    if (armed && !inside && below(name)) act = due(call, name, space); \
    if (act == 1) return -1; \
    if (act == 2) raise(SIGKILL);

ssize_t write(int file, const void *data, size_t n)
{
    REAL(write); BY_HANDLE("write", file, 1)
    if (act == 2) { if (real(file, data, n / 2) < 0) {} raise(SIGKILL); }
    return real(file, data, n);
}
ssize_t pwrite(int file, const void *data, size_t n, off_t offset)
{
    REAL(pwrite); BY_HANDLE("pwrite", file, 1)
    if (act == 2) { if (real(file, data, n / 2, offset) < 0) {} raise(SIGKILL); }
    return real(file, data, n, offset);
}
ssize_t pwrite64(int file, const void *data, size_t n, off64_t offset) { return pwrite(file, data, n, offset); }
ssize_t writev(int file, const struct iovec *parts, int n)
{
    REAL(writev); BY_HANDLE("writev", file, 1)
    if (act == 2) raise(SIGKILL);
    return real(file, parts, n);
}
int fsync(int file) { REAL(fsync); BY_HANDLE("fsync", file, 1) if (act == 2) raise(SIGKILL); return real(file); }
int fdatasync(int file) { REAL(fdatasync); BY_HANDLE("fdatasync", file, 1) if (act == 2) raise(SIGKILL); return real(file); }
int ftruncate(int file, off_t n) { REAL(ftruncate); BY_HANDLE("ftruncate", file, 0) if (act == 2) raise(SIGKILL); return real(file, n); }
int ftruncate64(int file, off64_t n) { return ftruncate(file, n); }
int posix_fallocate(int file, off_t start, off_t n)
{
    REAL(posix_fallocate);
    char path[4096];
    int act = armed && !inside && of_handle(file, path) ? due("posix_fallocate", path, 1) : 0;
    if (act == 1) return errno;
    if (act == 2) raise(SIGKILL);
    return real(file, start, n);
}
int posix_fallocate64(int file, off64_t start, off64_t n) { return posix_fallocate(file, start, n); }
int truncate(const char *name, off_t n) { REAL(truncate); BY_PATH("truncate", name, 0) return real(name, n); }
int truncate64(const char *name, off64_t n) { return truncate(name, n); }
int rename(const char *from, const char *to) { REAL(rename); BY_PATH("rename", to, 0) return real(from, to); }
int link(const char *from, const char *to) { REAL(link); BY_PATH("link", to, 1) return real(from, to); }
int linkat(int a, const char *from, int b, const char *to, int flags)
{
    REAL(linkat); BY_PATH("link", to, 1) return real(a, from, b, to, flags);
}
int unlink(const char *name) { REAL(unlink); BY_PATH("unlink", name, 0) return real(name); }
int mkdir(const char *name, mode_t mode) { REAL(mkdir); BY_PATH("mkdir", name, 1) return real(name, mode); }
int open(const char *name, int flags, ...)
{
    REAL(open);
    va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more);
    if (flags & O_CREAT) { BY_PATH("open", name, 1) }
    return real(name, flags, mode);
}
int open64(const char *name, int flags, ...)
{
    va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more);
    return open(name, flags, mode);
}
