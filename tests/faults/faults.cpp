// A library to be loaded before the C library (LD_PRELOAD), which makes the disk and the system fail for one program.
// It does three things, each asked for by an environment variable; tests/process/faults.py is the other side of all.
//
// The power can be cut. WORKMILL_FAULTS_DATA names a folder, WORKMILL_FAULTS_JOURNAL another on the same file system.
// Before each change of a file or a name in the first, the second is told what was there before, and afterwards
// what has been synced. Whoever kills the program can then take back what a disk might have lost: what was written and
// not synced, wholly, in parts, or from some point on. Syncs themselves only wait (WORKMILL_FAULTS_SYNC_US) and write
// that down: nobody pulls a plug here. WORKMILL_FAULTS_SYNC=lie leaves even that out, to prove that the audit sees it.
//
// The k-th call can fail. WORKMILL_FAULTS_FAIL is "fdatasync 3", "pwritev 2+" (from the second on), "any 17" or "new
// 40" (the 40th allocation by operator new), with an errno's number behind it where it is not to be the usual one of
// that call. WORKMILL_FAULTS_STATE names a file in which the calls are counted while the program runs.
//
// Calls can do less than asked. WORKMILL_FAULTS_SHORT is a seed: from then on half of all reads and writes are cut
// short, and some end with EINTR.
//
// Nothing here allocates or throws, and nothing uses the C++ library beyond its headers: it runs inside malloc.
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <new>

namespace {

// ---- Which calls there are, and what each fails with unless told otherwise.

#define WM_CALLS(call)                                                                                              \
  call(open, EMFILE) call(openat, EMFILE) call(close, EIO) call(read, EIO) call(pread, EIO) call(readv, EIO)        \
      call(write, EIO) call(pwrite, EIO) call(writev, EIO) call(pwritev, EIO) call(fsync, EIO) call(fdatasync, EIO) \
          call(fallocate, ENOSPC) call(ftruncate, EIO) call(renameat, EIO) call(unlinkat, EIO) call(mkdir, EACCES)  \
              call(fstat, EIO) call(fstatat, EIO) call(fstatvfs, EIO) call(flock, ENOLCK) call(opendir, EMFILE)     \
                  call(mmap, ENOMEM) call(getrandom, EIO) call(socket, EMFILE) call(setsockopt, EINVAL)             \
                      call(bind, EADDRINUSE) call(listen, EADDRINUSE) call(accept, EMFILE) call(accept4, EMFILE)    \
                          call(getsockname, ENOBUFS) call(recv, ECONNRESET) call(recvmsg, ECONNRESET)               \
                              call(send, ECONNRESET) call(sendmsg, ECONNRESET) call(epoll_create1, EMFILE)          \
                                  call(epoll_ctl, ENOMEM) call(epoll_wait, ENOMEM) call(epoll_pwait2, ENOMEM)       \
                                      call(poll, ENOMEM) call(eventfd, EMFILE) call(timerfd_create, EMFILE)         \
                                          call(timerfd_settime, EINVAL) call(signalfd, EMFILE) call(pipe, EMFILE)   \
                                              call(pthread_create, EAGAIN)

enum class Call : std::uint32_t {
#define WM_NAME(name, usual) of_##name,
  WM_CALLS(WM_NAME)
#undef WM_NAME
      count
};
constexpr std::size_t kCalls = static_cast<std::size_t>(Call::count);
struct About {
  char const* name;
  int usual_errno;
};
constexpr std::array<About, kCalls> kAbout{{
#define WM_ABOUT(name, usual) {#name, usual},
    WM_CALLS(WM_ABOUT)
#undef WM_ABOUT
}};

// ---- What is shared with the test, which reads it after the program's death: numbers only, in this order.

struct State {
  std::atomic<std::uint64_t> calls;   // Of any kind but operator new.
  std::atomic<std::uint64_t> news;    // operator new.
  std::atomic<std::uint64_t> failed;  // How many were made to fail.
  std::atomic<std::uint64_t> kinds;   // Of the numbers that follow.
  std::array<std::atomic<std::uint64_t>, kCalls> by_kind;
};

struct Plan {
  enum class What : std::uint8_t { nothing, any, one, allocation } what = What::nothing;
  Call call{};
  std::uint64_t number = 0;
  bool from_there_on = false;
  int error = 0;  // 0: the usual one.
};

struct File {
  enum class Is : std::uint8_t { other, file, data_folder, parent_folder } is = Is::other;
  ino_t inode = 0;
  int reader = -1;  // For what was there before.
};

constexpr std::size_t kFiles = 65'536;  // Descriptors beyond are not looked at.
constexpr std::size_t kPath = 1024;

struct Globals {
  State own_state{};
  State* state = &own_state;
  Plan plan;
  std::atomic<std::uint64_t> dice{0};  // 0: nothing is cut short.

  bool traces = false;
  bool lies = false;
  unsigned sync_us = 0;
  char data[kPath] = {};
  char parent[kPath] = {};
  char journal[kPath] = {};
  int journal_fd = -1;
  std::uint64_t sequence = 0;  // Under the mutex, as all below.
  File files[kFiles];
};

// The one object of this library: it has no constructor to wait for, as calls come in before those have run.
Globals globals;
pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
thread_local int inside = 0;  // Calls that this library makes itself are none of the program's.

class Lock {
 public:
  Lock() { pthread_mutex_lock(&mutex); }
  ~Lock() { pthread_mutex_unlock(&mutex); }
  Lock(Lock const&) = delete;
  Lock& operator=(Lock const&) = delete;
};

class Inside {
 public:
  Inside() { ++inside; }
  ~Inside() { --inside; }
  Inside(Inside const&) = delete;
  Inside& operator=(Inside const&) = delete;
};

template <class Function>
Function* next(char const* name, std::atomic<void*>& known) {
  void* found = known.load(std::memory_order_acquire);
  if (found == nullptr) {
    found = dlsym(RTLD_NEXT, name);
    if (found == nullptr) abort();
    known.store(found, std::memory_order_release);
  }
  return reinterpret_cast<Function*>(found);
}

// The call as the C library has it.
#define WM_REAL(name)                            \
  ([]() -> decltype(&::name) {                   \
    static std::atomic<void*> known{nullptr};    \
    return next<decltype(::name)>(#name, known); \
  }())

void say(char const* what, std::uint64_t number, int error) {
  char line[160];
  int const size = snprintf(line, sizeof line, "faults: %s, the call number %llu, fails with errno %d\n", what,
                            static_cast<unsigned long long>(number), error);
  syscall(SYS_write, 2, line, static_cast<std::size_t>(size));
}

bool is_due(std::uint64_t number) {
  Plan const& plan = globals.plan;
  return number == plan.number || (plan.from_there_on && number > plan.number);
}

// Counts a call. The errno that it is to fail with, or 0.
int meet(Call call) {
  if (inside > 0) return 0;
  State& state = *globals.state;
  std::uint64_t const all = state.calls.fetch_add(1) + 1;
  std::uint64_t const of_kind = state.by_kind[static_cast<std::size_t>(call)].fetch_add(1) + 1;
  Plan const& plan = globals.plan;
  bool const fails = (plan.what == Plan::What::any && is_due(all)) ||
                     (plan.what == Plan::What::one && plan.call == call && is_due(of_kind));
  if (!fails) return 0;
  About const& about = kAbout[static_cast<std::size_t>(call)];
  int const error = plan.error != 0 ? plan.error : about.usual_errno;
  state.failed.fetch_add(1);
  say(about.name, plan.what == Plan::What::any ? all : of_kind, error);
  return error;
}

// splitmix64. Threads share the dice: which call gets which throw is not repeatable, and need not be.
std::uint64_t throw_dice() {
  std::uint64_t x = globals.dice.fetch_add(0x9e3779b97f4a7c15) + 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

bool is_short() { return inside == 0 && globals.dice.load(std::memory_order_relaxed) != 0; }
// What has at most eight bytes is an event's counter or a signal's number in a pipe: done whole, and at once.
bool is_interrupted(std::size_t size) { return is_short() && size > 8 && throw_dice() % 5 == 0; }
// How much of `size` is done.
std::size_t cut_short(std::size_t size) {
  if (!is_short() || size <= 8 || throw_dice() % 2 == 0) return size;
  return 1 + throw_dice() % (size - 1);
}

// The first part of `parts`, `size` bytes of it, in `out`.
int cut_parts(iovec const* parts, int count, std::size_t size, std::array<iovec, IOV_MAX>& out) {
  int used = 0;
  for (; used < count && size > 0; ++used) {
    auto const i = static_cast<std::size_t>(used);
    out[i] = parts[i];
    out[i].iov_len = std::min(out[i].iov_len, size);
    size -= out[i].iov_len;
  }
  return used;
}

std::size_t size_of(iovec const* parts, int count) {
  std::size_t size = 0;
  for (int i = 0; i < count; ++i) size += parts[i].iov_len;
  return size;
}

#define WM_MEET(call, failure)                   \
  if (int const error = meet(Call::of_##call)) { \
    errno = error;                               \
    return failure;                              \
  }
#define WM_INTERRUPT(size)    \
  if (is_interrupted(size)) { \
    errno = EINTR;            \
    return -1;                \
  }

// ---- The journal: before each change what was there, and what has been synced.

enum class Kind : std::uint32_t { write = 1, resize, rename, unlink, create, mkdir, sync_file, sync_folder };

struct Entry {                       // As tests/process/faults.py reads it: little-endian, no gaps.
  std::uint32_t magic = 0x4a464d57;  // "WMFJ"
  Kind kind{};
  std::uint64_t sequence = 0;
  std::uint64_t at_ns = 0;        // CLOCK_MONOTONIC. Of a sync: when it began.
  std::uint64_t inode = 0;        // Of a folder's sync: 1 for the data folder, 2 for its parent.
  std::uint64_t offset = 0;       // Of a resize: the new size. Of a sync: the last sequence that it covers.
  std::uint64_t length = 0;       // Of what was written.
  std::uint64_t size_before = 0;  // Of the file.
  std::uint64_t before = 0;       // So many bytes of what was there before follow the names.
  std::uint32_t name = 0;         // So many bytes of a name follow.
  std::uint32_t new_name = 0;     // And of a second one.
};
static_assert(sizeof(Entry) == 72);

std::uint64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

File* find(int fd) {
  if (!globals.traces || inside > 0 || fd < 0 || static_cast<std::size_t>(fd) >= kFiles) return nullptr;
  File& file = globals.files[fd];
  return file.is == File::Is::other ? nullptr : &file;
}

void must(bool worked, char const* what) {
  if (worked) return;
  char line[160];
  int const size = snprintf(line, sizeof line, "faults: %s: errno %d\n", what, errno);
  syscall(SYS_write, 2, line, static_cast<std::size_t>(size));
  _exit(99);  // A journal with holes would prove nothing.
}

// One call, so that a death leaves the entry whole, or at the very end of the journal.
void put(Entry& entry, char const* name, char const* new_name, void const* before) {
  entry.name = name != nullptr ? static_cast<std::uint32_t>(strlen(name)) : 0;
  entry.new_name = new_name != nullptr ? static_cast<std::uint32_t>(strlen(new_name)) : 0;
  if (entry.at_ns == 0) entry.at_ns = now_ns();
  entry.sequence = ++globals.sequence;
  iovec parts[4] = {{&entry, sizeof entry},
                    {const_cast<char*>(name), entry.name},
                    {const_cast<char*>(new_name), entry.new_name},
                    {const_cast<void*>(before), entry.before}};
  std::size_t const size = size_of(parts, 4);
  must(WM_REAL(writev)(globals.journal_fd, parts, 4) == static_cast<ssize_t>(size), "cannot write the journal");
}

// What stands in [from, from + length) of the file now.
void put_with_content(File const& file, Entry& entry, std::uint64_t from, std::uint64_t length) {
  struct stat info{};
  must(WM_REAL(fstat)(file.reader, &info) == 0, "cannot look at a file");
  entry.inode = file.inode;
  entry.size_before = static_cast<std::uint64_t>(info.st_size);
  entry.before = from >= entry.size_before ? 0 : std::min(length, entry.size_before - from);
  void* content = nullptr;
  if (entry.before > 0) {
    content = WM_REAL(mmap)(nullptr, entry.before, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(content != MAP_FAILED, "no memory");
    ssize_t const got = WM_REAL(pread)(file.reader, content, entry.before, static_cast<off_t>(from));
    must(got == static_cast<ssize_t>(entry.before), "cannot read what was there");
  }
  put(entry, nullptr, nullptr, content);
  if (content != nullptr) munmap(content, entry.before);
}

// A name in the data folder, or null: `path` as it was given with a descriptor of a folder, or absolute.
char const* name_in_data(int folder, char const* path) {
  std::size_t const length = strlen(globals.data);
  if (path[0] == '/') {
    if (strncmp(path, globals.data, length) != 0 || path[length] != '/') return nullptr;
    return path + length + 1;
  }
  File const* const file = find(folder);
  return file != nullptr && file->is == File::Is::data_folder ? path : nullptr;
}

// Files are kept under their inode's number beside the journal, so that no name is needed to find them again.
void keep(int folder, char const* name, ino_t inode) {
  char link[kPath + 32];
  snprintf(link, sizeof link, "%s/%llu", globals.journal, static_cast<unsigned long long>(inode));
  must(linkat(folder, name, AT_FDCWD, link, 0) == 0 || errno == EEXIST, "cannot keep a file");
}

// A descriptor has been opened: is it one of ours?
void learn(int fd, bool is_new) {
  if (!globals.traces || inside > 0 || fd < 0 || static_cast<std::size_t>(fd) >= kFiles) return;
  Inside const ours;
  int const saved = errno;
  char self[64];
  char path[kPath];
  snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
  ssize_t const length = readlink(self, path, sizeof path - 1);
  if (length > 0) {
    path[length] = '\0';
    std::size_t const prefix = strlen(globals.data);
    Lock const lock;
    File& file = globals.files[fd];
    if (strcmp(path, globals.data) == 0) {
      file.is = File::Is::data_folder;
    } else if (strcmp(path, globals.parent) == 0) {
      file.is = File::Is::parent_folder;
    } else if (strncmp(path, globals.data, prefix) == 0 && path[prefix] == '/') {
      struct stat info{};
      must(WM_REAL(fstat)(fd, &info) == 0, "cannot look at a file");
      if (S_ISREG(info.st_mode)) {
        file.inode = info.st_ino;
        file.reader = WM_REAL(open)(self, O_RDONLY | O_CLOEXEC);
        must(file.reader >= 0, "cannot open a file again");
        keep(AT_FDCWD, path, info.st_ino);
        file.is = File::Is::file;
        if (is_new) {
          Entry entry;
          entry.kind = Kind::create;
          entry.inode = info.st_ino;
          put(entry, path + prefix + 1, nullptr, nullptr);
        }
      }
    }
  }
  errno = saved;
}

// About to be truncated as it is opened: what it holds is kept.
void note_truncation(char const* name) {
  char path[2 * kPath];
  snprintf(path, sizeof path, "%s/%s", globals.data, name);
  int const fd = WM_REAL(open)(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  struct stat info{};
  must(WM_REAL(fstat)(fd, &info) == 0, "cannot look at a file");
  File file;
  file.inode = info.st_ino;
  file.reader = fd;
  keep(AT_FDCWD, path, info.st_ino);
  Entry entry;
  entry.kind = Kind::resize;
  put_with_content(file, entry, 0, static_cast<std::uint64_t>(info.st_size));
  WM_REAL(close)(fd);
}

int opened(int folder, char const* path, int flags, mode_t mode, bool is_at) {
  bool is_new = false;
  char const* const name =
      globals.traces && inside == 0 && (flags & O_CREAT) != 0 ? name_in_data(folder, path) : nullptr;
  if (name != nullptr) {
    Inside const ours;
    Lock const lock;
    char full[2 * kPath];
    snprintf(full, sizeof full, "%s/%s", globals.data, name);
    is_new = access(full, F_OK) != 0;
    if (!is_new && (flags & O_TRUNC) != 0) note_truncation(name);
  }
  int const fd = is_at ? WM_REAL(openat)(folder, path, flags, mode) : WM_REAL(open)(path, flags, mode);
  learn(fd, is_new);
  return fd;
}

mode_t mode_of(int flags, va_list& arguments) {
  return (flags & (O_CREAT | O_TMPFILE)) != 0 ? static_cast<mode_t>(va_arg(arguments, unsigned)) : 0;
}

template <class Write>
ssize_t write_through(int fd, off_t offset, std::size_t size, Write&& write) {
  File* const file = find(fd);
  if (file == nullptr || file->is != File::Is::file) return write();
  Inside const ours;
  Lock const lock;
  Entry entry;
  entry.kind = Kind::write;
  entry.offset = static_cast<std::uint64_t>(offset >= 0 ? offset : lseek(fd, 0, SEEK_CUR));
  entry.length = size;
  put_with_content(*file, entry, entry.offset, size);
  return write();
}

template <class Resize>
int resize(int fd, std::uint64_t bytes, Resize&& do_it) {
  File* const file = find(fd);
  if (file == nullptr || file->is != File::Is::file) return do_it();
  Inside const ours;
  Lock const lock;
  Entry entry;
  entry.kind = Kind::resize;
  entry.offset = bytes;
  put_with_content(*file, entry, bytes, UINT64_MAX);
  return do_it();
}

// What was there when the sync began is durable when it ends.
template <class Sync>
int sync(int fd, Sync&& really) {
  File* const file = find(fd);
  if (file == nullptr) return really();
  Inside const ours;
  Entry entry;
  entry.at_ns = now_ns();
  {
    Lock const lock;
    entry.kind = file->is == File::Is::file ? Kind::sync_file : Kind::sync_folder;
    entry.inode = file->is == File::Is::file ? file->inode : file->is == File::Is::data_folder ? 1 : 2;
    entry.offset = globals.sequence;
  }
  if (globals.sync_us > 0) usleep(globals.sync_us);
  if (globals.lies) return 0;
  Lock const lock;
  put(entry, nullptr, nullptr, nullptr);
  return 0;
}

// ---- What was asked for.

char const* setting(char const* name) {
  char const* const value = getenv(name);
  return value != nullptr && *value != '\0' ? value : nullptr;
}

void read_plan(char const* text) {
  char name[32] = {};
  unsigned long long number = 0;
  char plus = ' ';
  int error = 0;
  if (sscanf(text, "%31s %llu%c%d", name, &number, &plus, &error) < 2 || number == 0) _exit(98);
  Plan& plan = globals.plan;
  plan.number = number;
  plan.from_there_on = plus == '+';
  plan.error = error;
  if (strcmp(name, "any") == 0) plan.what = Plan::What::any;
  if (strcmp(name, "new") == 0) plan.what = Plan::What::allocation;
  for (std::size_t i = 0; i < kCalls; ++i) {
    if (strcmp(name, kAbout[i].name) != 0) continue;
    plan.what = Plan::What::one;
    plan.call = static_cast<Call>(i);
  }
  if (plan.what == Plan::What::nothing) _exit(98);
}

void start_tracing(char const* data, char const* journal) {
  snprintf(globals.data, sizeof globals.data, "%s", data);
  snprintf(globals.parent, sizeof globals.parent, "%s", data);
  char* const slash = strrchr(globals.parent, '/');
  must(slash != nullptr && slash != globals.parent, "the data folder must be absolute, and not in the root");
  *slash = '\0';
  snprintf(globals.journal, sizeof globals.journal, "%s", journal);
  char path[2 * kPath];
  snprintf(path, sizeof path, "%s/journal", journal);
  globals.journal_fd = WM_REAL(open)(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  must(globals.journal_fd >= 0, "cannot make the journal");
  // Out of the way of what the program opens: its descriptors are what they always are.
  int const high = fcntl(globals.journal_fd, F_DUPFD_CLOEXEC, 900);
  if (high >= 0) {
    WM_REAL(close)(globals.journal_fd);
    globals.journal_fd = high;
  }
  globals.lies = setting("WORKMILL_FAULTS_SYNC") != nullptr;
  char const* const wait = setting("WORKMILL_FAULTS_SYNC_US");
  globals.sync_us = wait != nullptr ? static_cast<unsigned>(atoi(wait)) : 0;
  globals.traces = true;
}

__attribute__((constructor)) void start() {
  Inside const ours;
  if (char const* const path = setting("WORKMILL_FAULTS_STATE")) {
    int const fd = WM_REAL(open)(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    must(fd >= 0 && WM_REAL(ftruncate)(fd, sizeof(State)) == 0, "cannot make the file of counts");
    void* const shared = WM_REAL(mmap)(nullptr, sizeof(State), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    must(shared != MAP_FAILED, "cannot map the file of counts");
    WM_REAL(close)(fd);
    globals.state = static_cast<State*>(shared);
    globals.state->kinds.store(kCalls);
  }
  char const* const data = setting("WORKMILL_FAULTS_DATA");
  char const* const journal = setting("WORKMILL_FAULTS_JOURNAL");
  if (data != nullptr && journal != nullptr) start_tracing(data, journal);
  if (char const* const seed = setting("WORKMILL_FAULTS_SHORT")) globals.dice.store(strtoull(seed, nullptr, 10) | 1);
  if (char const* const plan = setting("WORKMILL_FAULTS_FAIL")) read_plan(plan);
}

}  // namespace

// ---- The calls. Each: is it to fail; else what the C library does, written down where it matters.

#define WM_PUBLIC extern "C" __attribute__((visibility("default")))

WM_PUBLIC int open(char const* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  mode_t const mode = mode_of(flags, arguments);
  va_end(arguments);
  WM_MEET(open, -1)
  return opened(AT_FDCWD, path, flags, mode, false);
}
WM_PUBLIC int openat(int folder, char const* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  mode_t const mode = mode_of(flags, arguments);
  va_end(arguments);
  WM_MEET(openat, -1)
  return opened(folder, path, flags, mode, true);
}
WM_PUBLIC int close(int fd) {
  if (File* const file = find(fd)) {
    Inside const ours;
    Lock const lock;
    if (file->reader >= 0) WM_REAL(close)(file->reader);
    *file = File{};
  }
  int const closed = WM_REAL(close)(fd);  // Linux closes it, whatever it says.
  WM_MEET(close, -1)
  return closed;
}
WM_PUBLIC ssize_t read(int fd, void* out, std::size_t size) {
  WM_MEET(read, -1)
  WM_INTERRUPT(size)
  return WM_REAL(read)(fd, out, cut_short(size));
}
WM_PUBLIC ssize_t pread(int fd, void* out, std::size_t size, off_t offset) {
  WM_MEET(pread, -1)
  WM_INTERRUPT(size)
  return WM_REAL(pread)(fd, out, cut_short(size), offset);
}
WM_PUBLIC ssize_t readv(int fd, iovec const* parts, int count) {
  WM_MEET(readv, -1)
  WM_INTERRUPT(size_of(parts, count))
  std::array<iovec, IOV_MAX> cut;
  return WM_REAL(readv)(fd, cut.data(), cut_parts(parts, count, cut_short(size_of(parts, count)), cut));
}
WM_PUBLIC ssize_t write(int fd, void const* bytes, std::size_t size) {
  if (size != sizeof(std::uint64_t)) {  // An event's counter: that does not fail.
    WM_MEET(write, -1)
    WM_INTERRUPT(size)
  }
  size = cut_short(size);
  return write_through(fd, -1, size, [&] { return WM_REAL(write)(fd, bytes, size); });
}
WM_PUBLIC ssize_t pwrite(int fd, void const* bytes, std::size_t size, off_t offset) {
  WM_MEET(pwrite, -1)
  WM_INTERRUPT(size)
  if (find(fd) == nullptr || size > 32) size = cut_short(size);  // The number in LOCK is written in one go, or not.
  return write_through(fd, offset, size, [&] { return WM_REAL(pwrite)(fd, bytes, size, offset); });
}
WM_PUBLIC ssize_t writev(int fd, iovec const* parts, int count) {
  WM_MEET(writev, -1)
  WM_INTERRUPT(size_of(parts, count))
  std::array<iovec, IOV_MAX> cut;
  std::size_t const size = cut_short(size_of(parts, count));
  int const used = cut_parts(parts, count, size, cut);
  return write_through(fd, -1, size, [&] { return WM_REAL(writev)(fd, cut.data(), used); });
}
WM_PUBLIC ssize_t pwritev(int fd, iovec const* parts, int count, off_t offset) {
  WM_MEET(pwritev, -1)
  WM_INTERRUPT(size_of(parts, count))
  std::array<iovec, IOV_MAX> cut;
  std::size_t const size = cut_short(size_of(parts, count));
  int const used = cut_parts(parts, count, size, cut);
  return write_through(fd, offset, size, [&] { return WM_REAL(pwritev)(fd, cut.data(), used, offset); });
}
WM_PUBLIC int fsync(int fd) {
  WM_MEET(fsync, -1)
  return sync(fd, [&] { return WM_REAL(fsync)(fd); });
}
WM_PUBLIC int fdatasync(int fd) {
  WM_MEET(fdatasync, -1)
  return sync(fd, [&] { return WM_REAL(fdatasync)(fd); });
}
WM_PUBLIC int fallocate(int fd, int mode, off_t offset, off_t length) {
  WM_MEET(fallocate, -1)
  return resize(fd, static_cast<std::uint64_t>(offset + length),
                [&] { return WM_REAL(fallocate)(fd, mode, offset, length); });
}
WM_PUBLIC int ftruncate(int fd, off_t length) noexcept {
  WM_MEET(ftruncate, -1)
  return resize(fd, static_cast<std::uint64_t>(length), [&] { return WM_REAL(ftruncate)(fd, length); });
}
WM_PUBLIC int renameat(int from_folder, char const* from, int to_folder, char const* to) noexcept {
  WM_MEET(renameat, -1)
  char const* const old_name = globals.traces && inside == 0 ? name_in_data(from_folder, from) : nullptr;
  char const* const new_name = old_name != nullptr ? name_in_data(to_folder, to) : nullptr;
  if (new_name == nullptr) return WM_REAL(renameat)(from_folder, from, to_folder, to);
  Inside const ours;
  Lock const lock;
  struct stat info{};
  if (WM_REAL(fstatat)(to_folder, to, &info, 0) == 0) {  // It goes, as if it were unlinked.
    keep(to_folder, to, info.st_ino);
    Entry gone;
    gone.kind = Kind::unlink;
    gone.inode = info.st_ino;
    put(gone, new_name, nullptr, nullptr);
  }
  Entry entry;
  entry.kind = Kind::rename;
  put(entry, old_name, new_name, nullptr);
  return WM_REAL(renameat)(from_folder, from, to_folder, to);
}
WM_PUBLIC int unlinkat(int folder, char const* path, int flags) noexcept {
  WM_MEET(unlinkat, -1)
  char const* const name = globals.traces && inside == 0 ? name_in_data(folder, path) : nullptr;
  if (name == nullptr) return WM_REAL(unlinkat)(folder, path, flags);
  Inside const ours;
  Lock const lock;
  struct stat info{};
  if (WM_REAL(fstatat)(folder, path, &info, 0) == 0) {
    keep(folder, path, info.st_ino);
    Entry entry;
    entry.kind = Kind::unlink;
    entry.inode = info.st_ino;
    put(entry, name, nullptr, nullptr);
  }
  return WM_REAL(unlinkat)(folder, path, flags);
}
WM_PUBLIC int mkdir(char const* path, mode_t mode) noexcept {
  WM_MEET(mkdir, -1)
  int const made = WM_REAL(mkdir)(path, mode);
  if (made == 0 && globals.traces && inside == 0 && strcmp(path, globals.data) == 0) {
    Inside const ours;
    Lock const lock;
    Entry entry;
    entry.kind = Kind::mkdir;
    put(entry, nullptr, nullptr, nullptr);
  }
  return made;
}

// ---- Those that fail, and do nothing else here.

#define WM_PASS(type, name, failure, parameters, arguments, ...) \
  WM_PUBLIC type name parameters __VA_ARGS__ {                   \
    WM_MEET(name, failure)                                       \
    return WM_REAL(name) arguments;                              \
  }
WM_PASS(int, fstat, -1, (int fd, struct stat* out), (fd, out), noexcept)
WM_PASS(int, fstatat, -1, (int fd, char const* path, struct stat* out, int flags), (fd, path, out, flags), noexcept)
WM_PASS(int, fstatvfs, -1, (int fd, struct statvfs* out), (fd, out), noexcept)
WM_PASS(int, flock, -1, (int fd, int operation), (fd, operation), noexcept)
WM_PASS(void*, mmap, MAP_FAILED, (void* at, std::size_t size, int protection, int flags, int fd, off_t offset),
        (at, size, protection, flags, fd, offset), noexcept)
WM_PASS(ssize_t, getrandom, -1, (void* out, std::size_t size, unsigned flags), (out, size, flags))
WM_PASS(int, socket, -1, (int domain, int type, int protocol), (domain, type, protocol), noexcept)
WM_PASS(int, setsockopt, -1, (int fd, int level, int name, void const* value, socklen_t size),
        (fd, level, name, value, size), noexcept)
WM_PASS(int, bind, -1, (int fd, sockaddr const* address, socklen_t size), (fd, address, size), noexcept)
WM_PASS(int, listen, -1, (int fd, int backlog), (fd, backlog), noexcept)
WM_PASS(int, accept, -1, (int fd, sockaddr* address, socklen_t* size), (fd, address, size))
WM_PASS(int, accept4, -1, (int fd, sockaddr* address, socklen_t* size, int flags), (fd, address, size, flags))
WM_PASS(int, getsockname, -1, (int fd, sockaddr* address, socklen_t* size), (fd, address, size), noexcept)
WM_PASS(int, epoll_create1, -1, (int flags), (flags), noexcept)
WM_PASS(int, poll, -1, (pollfd * fds, nfds_t count, int timeout), (fds, count, timeout))
WM_PASS(int, eventfd, -1, (unsigned count, int flags), (count, flags), noexcept)
WM_PASS(int, timerfd_create, -1, (clockid_t clock, int flags), (clock, flags), noexcept)
WM_PASS(int, timerfd_settime, -1, (int fd, int flags, itimerspec const* value, itimerspec* old),
        (fd, flags, value, old), noexcept)
WM_PASS(int, signalfd, -1, (int fd, sigset_t const* mask, int flags), (fd, mask, flags), noexcept)
WM_PASS(int, pipe, -1, (int* ends), (ends), noexcept)
WM_PASS(int, epoll_pwait2, -1, (int fd, epoll_event* events, int count, timespec const* timeout, sigset_t const* mask),
        (fd, events, count, timeout, mask))

WM_PUBLIC DIR* opendir(char const* path) {
  WM_MEET(opendir, nullptr)
  return WM_REAL(opendir)(path);
}
WM_PUBLIC int epoll_ctl(int fd, int operation, int other, epoll_event* event) noexcept {
  if (operation == EPOLL_CTL_ADD) {  // The others need nothing that could be missing.
    WM_MEET(epoll_ctl, -1)
  }
  return WM_REAL(epoll_ctl)(fd, operation, other, event);
}
WM_PUBLIC int epoll_wait(int fd, epoll_event* events, int count, int timeout) {
  WM_MEET(epoll_wait, -1)
  WM_INTERRUPT(SIZE_MAX)
  return WM_REAL(epoll_wait)(fd, events, count, timeout);
}
WM_PUBLIC ssize_t recv(int fd, void* out, std::size_t size, int flags) {
  WM_MEET(recv, -1)
  WM_INTERRUPT(size)
  // Never cut short: a socket that gives less than was asked for has no more, which edge-triggered epoll is built on.
  return WM_REAL(recv)(fd, out, size, flags);
}
WM_PUBLIC ssize_t send(int fd, void const* bytes, std::size_t size, int flags) {
  WM_MEET(send, -1)
  WM_INTERRUPT(size)
  return WM_REAL(send)(fd, bytes, cut_short(size), flags);
}
WM_PUBLIC ssize_t recvmsg(int fd, msghdr* message, int flags) {
  WM_MEET(recvmsg, -1)
  WM_INTERRUPT(SIZE_MAX)
  return WM_REAL(recvmsg)(fd, message, flags);
}
WM_PUBLIC ssize_t sendmsg(int fd, msghdr const* message, int flags) {
  WM_MEET(sendmsg, -1)
  WM_INTERRUPT(SIZE_MAX)
  std::array<iovec, IOV_MAX> cut;
  msghdr shorter = *message;
  int const count = static_cast<int>(message->msg_iovlen);
  std::size_t const size = cut_short(size_of(message->msg_iov, count));
  shorter.msg_iovlen = static_cast<std::size_t>(cut_parts(message->msg_iov, count, size, cut));
  shorter.msg_iov = cut.data();
  return WM_REAL(sendmsg)(fd, &shorter, flags);
}
WM_PUBLIC int pthread_create(pthread_t* thread, pthread_attr_t const* attributes, void* (*run)(void*),
                             void* argument) noexcept {
  if (int const error = meet(Call::of_pthread_create)) return error;
  return WM_REAL(pthread_create)(thread, attributes, run, argument);
}

// ---- Memory. Not malloc: what C libraries do without memory is theirs to answer for, and dlsym needs it itself.

namespace {

void* allocate(std::size_t size, std::size_t alignment) {
  if (size == 0) size = 1;
  return alignment <= alignof(std::max_align_t)
             ? malloc(size)
             : aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
}

bool is_refused() {
  if (inside > 0) return false;
  std::uint64_t const number = globals.state->news.fetch_add(1) + 1;
  if (globals.plan.what != Plan::What::allocation || !is_due(number)) return false;
  globals.state->failed.fetch_add(1);
  say("operator new", number, ENOMEM);
  return true;
}

// As the standard has it: the handler is called until there is memory, or no handler.
void* allocate_or_throw(std::size_t size, std::size_t alignment) {
  bool refused = is_refused();
  while (true) {
    void* const memory = refused ? nullptr : allocate(size, alignment);
    if (memory != nullptr) return memory;
    std::new_handler const handler = std::get_new_handler();
    if (handler == nullptr) throw std::bad_alloc{};
    handler();
    refused = false;
  }
}

}  // namespace

#define WM_NEW __attribute__((visibility("default")))
constexpr std::size_t kPlain = alignof(std::max_align_t);
WM_NEW void* operator new(std::size_t size) { return allocate_or_throw(size, kPlain); }
WM_NEW void* operator new[](std::size_t size) { return allocate_or_throw(size, kPlain); }
WM_NEW void* operator new(std::size_t size, std::align_val_t alignment) {
  return allocate_or_throw(size, static_cast<std::size_t>(alignment));
}
WM_NEW void* operator new[](std::size_t size, std::align_val_t alignment) {
  return allocate_or_throw(size, static_cast<std::size_t>(alignment));
}
// No handler here: the server's own operators call theirs, and how the few others who ask so do without is worth
// seeing.
WM_NEW void* operator new(std::size_t size, std::nothrow_t const&) noexcept {
  return is_refused() ? nullptr : allocate(size, kPlain);
}
WM_NEW void* operator new[](std::size_t size, std::nothrow_t const&) noexcept {
  return is_refused() ? nullptr : allocate(size, kPlain);
}
WM_NEW void* operator new(std::size_t size, std::align_val_t alignment, std::nothrow_t const&) noexcept {
  return is_refused() ? nullptr : allocate(size, static_cast<std::size_t>(alignment));
}
WM_NEW void* operator new[](std::size_t size, std::align_val_t alignment, std::nothrow_t const&) noexcept {
  return is_refused() ? nullptr : allocate(size, static_cast<std::size_t>(alignment));
}
