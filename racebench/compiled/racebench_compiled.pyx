# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The usual course of a session's operations, compiled: what racebench does in Python wherever this is not installed.

A Course knows a script's round trips and what the answer to each looked like last time. It sends, receives, compares
and records one operation after the other, without Python's lock. At the first answer that is not as usual it stops, and
hands that answer and the place in the script to the Python program, which has all the rules. A Loop waits for many
sockets: those of courses, and those that Python waits for. Both are used by one thread.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int64_t, uint32_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy, memset

import os

cdef extern from "<arpa/inet.h>" nogil:
    uint32_t htonl(uint32_t)

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int POLLIN
    int poll(pollfd *, unsigned long, int)

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        int fd
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int EPOLLIN, EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_DEL
    int epoll_create1(int)
    int epoll_ctl(int, int, int, epoll_event *)
    int epoll_wait(int, epoll_event *, int, int)

cdef extern from "<sys/socket.h>" nogil:
    int MSG_NOSIGNAL, MSG_DONTWAIT
    ssize_t send(int, const void *, size_t, int)
    ssize_t recv(int, void *, size_t, int)

cdef extern from "<time.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int CLOCK_MONOTONIC
    int clock_gettime(int, timespec *)

cdef enum:
    ANSWER = 448  # the most bytes of an answer that is compared
    RECORD = 32  # bytes; start, end and version are its first three numbers
    BATCH = 64
    NULL_VALUE = -1

cdef struct Value:
    char *text
    Py_ssize_t size, room

cdef struct Part:  # one statement of a round trip
    char *head
    Py_ssize_t size
    int first, last  # its values, as indexes of `places`

cdef struct Trip:
    int first, last  # its parts
    int stored  # the value that the answer sets; -1 for none
    bint learnt
    char before[ANSWER]  # the usual answer; of one that sets a value, what stands before and after its row
    char after[ANSWER]
    Py_ssize_t before_size, after_size

cdef struct State:
    int fd, trips, values, version, operation
    Trip *trip
    Part *part
    int *places
    Value *value
    char *out
    Py_ssize_t size, room
    char *records
    char *begun
    char *committed
    int64_t first, left, places_left, stop, start, done
    int at, problem
    char answer[ANSWER]
    Py_ssize_t answer_size


cdef int64_t clock() noexcept nogil:
    """What time.perf_counter_ns is on Linux."""
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t> now.tv_sec * 1000000000 + now.tv_nsec


cdef int keep(Value *value, const char *text, Py_ssize_t size) noexcept nogil:
    cdef char *more
    if size > value.room:
        more = <char *> realloc(value.text, size + 64)
        if more == NULL:
            return -1
        value.text, value.room = more, size + 64
    memcpy(value.text, text, size)
    value.size = size
    return 0


cdef char *put(char *at, const char *data, Py_ssize_t size) noexcept nogil:
    memcpy(at, data, size)
    return at + size


cdef char *put_size(char *at, Py_ssize_t size) noexcept nogil:
    cdef uint32_t big = htonl(<uint32_t> size)
    return put(at, <char *> &big, 4)


cdef int send_trip(State *s) noexcept nogil:
    """Bind and Execute for each statement, one Sync; 0, or the error's number."""
    cdef Trip *trip = &s.trip[s.at]
    cdef Part *part
    cdef Value *value
    cdef Py_ssize_t size = 5
    cdef ssize_t sent
    cdef char *more
    cdef char *at
    cdef char *length
    cdef int p, v
    for p in range(trip.first, trip.last):
        part = &s.part[p]
        size += 17 + part.size
        for v in range(part.first, part.last):
            size += 4 + max(s.value[s.places[v]].size, 0)
    if size > s.room:
        more = <char *> realloc(s.out, size + 256)
        if more == NULL:
            return 12  # ENOMEM
        s.out, s.room = more, size + 256
    at = s.out
    for p in range(trip.first, trip.last):
        part = &s.part[p]
        at = put(at, b"B", 1)
        length = at
        at = put(at + 4, part.head, part.size)
        for v in range(part.first, part.last):
            value = &s.value[s.places[v]]
            at = put_size(at, value.size)
            if value.size > 0:
                at = put(at, value.text, value.size)
        at = put(at, b"\x00\x00", 2)
        put_size(length, at - length)
        at = put(at, b"E\x00\x00\x00\x09\x00\x00\x00\x00\x00", 10)
    at = put(at, b"S\x00\x00\x00\x04", 5)
    size, at = at - s.out, s.out
    while size:
        sent = send(s.fd, at, size, MSG_NOSIGNAL)
        if sent >= 0:
            at += sent
            size -= sent
        elif errno != EINTR:
            return errno
    return 0


cdef bint usual(State *s) noexcept nogil:
    """Compare what was received with the usual answer, and take its value out."""
    cdef Trip *trip = &s.trip[s.at]
    cdef Py_ssize_t size = s.answer_size - trip.before_size
    cdef char *row = s.answer + trip.before_size
    cdef char head[11]
    if not trip.learnt or size < 0 or memcmp(s.answer, trip.before, trip.before_size):
        return False
    if trip.stored < 0:
        return size == 0
    size -= 11 + trip.after_size
    if size < 0:
        return False
    # DataRow, its length, one column, the value's length
    put_size(put(put_size(put(head, b"D", 1), 10 + size), b"\x00\x01", 2), size)
    if memcmp(row, head, 11) or memcmp(row + 11 + size, trip.after, trip.after_size):
        return False
    return keep(&s.value[trip.stored], row + 11, size) == 0


cdef bint number(State *s, int64_t *found) noexcept nogil:
    """The version as a number; False if Python has to say which one it is."""
    cdef Value *value = &s.value[s.version]
    cdef Py_ssize_t at = 0
    cdef int64_t total = 0
    if value.size > 0 and value.text[0] == 45:  # a minus sign
        at = 1
    if value.size <= at or value.size > at + 18:
        return False
    cdef Py_ssize_t first = at
    while at < value.size:
        if not 48 <= value.text[at] <= 57:
            return False
        total = total * 10 + value.text[at] - 48
        at += 1
    found[0] = -total if first else total
    return True


cdef bint begin(State *s) noexcept nogil:
    """Begin the next operation; True if Python goes on."""
    cdef char *record = s.records + s.done * RECORD
    cdef int64_t now
    cdef char text[32]
    s.at = -1
    if s.left == 0 or s.places_left == 0:
        return True
    now = clock()
    if now >= s.stop:
        return True
    s.left -= 1
    s.places_left -= 1
    s.start = now
    if s.operation >= 0:
        keep(&s.value[s.operation], text, snprintf(text, 32, "%lld", <long long> (s.first + s.done)))
    if s.version >= 0:
        s.value[s.version].size = NULL_VALUE
    memcpy(record + 8, s.begun + 8, RECORD - 8)
    memcpy(record, &now, 8)
    s.at = 0
    s.problem = send_trip(s)
    return s.problem != 0


cdef bint receive(State *s) noexcept nogil:
    """Go on with what can be read; True if Python goes on."""
    cdef ssize_t size = recv(s.fd, s.answer, ANSWER, MSG_DONTWAIT)
    cdef char *record
    cdef int64_t found, now
    if size < 0:
        if errno == EAGAIN or errno == EINTR:
            return False
        s.problem = errno
        return True
    s.answer_size = size
    if not usual(s):
        return True
    s.at += 1
    if s.at < s.trips:
        s.problem = send_trip(s)
        return s.problem != 0
    record = s.records + s.done * RECORD
    if s.version >= 0:
        if not number(s, &found):
            return True
        memcpy(record + 16, &found, 8)
    now = clock()
    memcpy(record + 8, &now, 8)
    memcpy(record + 24, s.committed + 24, RECORD - 24)
    s.done += 1
    return begin(s)


cdef class Course:
    """The usual course of one session's operations.

    `trips`: for each round trip its statements, as (head of the Bind message, names of the values), and the variable
    that its answer sets, or None. `begun` and `committed`: a record of an operation that has begun, and of one that was
    committed, whose times and version are filled in.
    """

    cdef State state
    cdef list kept, names
    cdef set changes
    cdef dict variables
    cdef object memory

    def __cinit__(self, int fd, trips, bytes begun, bytes committed):
        memset(&self.state, 0, sizeof(State))
        self.kept, self.names = [begun, committed], []
        cdef State *s = &self.state
        cdef int parts = 0, places = 0, at = 0, p = 0, v = 0
        if len(begun) != RECORD or len(committed) != RECORD:
            raise ValueError("a record has 32 bytes")
        for statements, stored in trips:
            parts += len(statements)
            places += sum(len(names) for _, names in statements)
        s.fd, s.trips = fd, len(trips)
        s.begun, s.committed = PyBytes_AS_STRING(begun), PyBytes_AS_STRING(committed)
        s.trip = <Trip *> self.space(s.trips * sizeof(Trip))
        s.part = <Part *> self.space(parts * sizeof(Part))
        s.places = <int *> self.space(places * sizeof(int))
        self.changes = {"operation", "version"}
        for statements, stored in trips:
            s.trip[at].first = p
            for head, names in statements:
                self.kept.append(head)
                s.part[p].head, s.part[p].size = PyBytes_AS_STRING(head), PyBytes_GET_SIZE(head)
                s.part[p].first = v
                for name in names:
                    s.places[v] = self.place(name)
                    v += 1
                s.part[p].last = v
                p += 1
            s.trip[at].last = p
            s.trip[at].stored = -1 if stored is None else self.place(stored)
            if stored is not None:
                self.changes.add(stored)
            at += 1
        stored = {stored for _, stored in trips}
        s.version = self.place("version") if "version" in stored else -1
        s.operation = self.place("operation") if "operation" in self.names else -1
        s.values = len(self.names)
        s.value = <Value *> self.space(s.values * sizeof(Value))
        self.changes &= set(self.names)

    cdef void *space(self, size_t size) except NULL:
        cdef void *found = realloc(NULL, size + 1)
        if found == NULL:
            raise MemoryError
        memset(found, 0, size + 1)
        return found

    cdef int place(self, name):
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name)

    def __dealloc__(self):
        cdef int at
        for at in range(self.state.values):
            free(self.state.value[at].text)
        free(self.state.trip)
        free(self.state.part)
        free(self.state.places)
        free(self.state.value)
        free(self.state.out)

    def learn(self, int trip, bytes before, bytes after=b""):
        """What the usual answer to a round trip is; if it sets a value, what stands before and after its row."""
        cdef Trip *learnt = &self.state.trip[trip]
        learnt.learnt = len(before) <= ANSWER and len(after) <= ANSWER
        if learnt.learnt:
            learnt.before_size, learnt.after_size = len(before), len(after)
            memcpy(learnt.before, PyBytes_AS_STRING(before), len(before))
            memcpy(learnt.after, PyBytes_AS_STRING(after), len(after))

    def begin(self, dict variables, int64_t first, int64_t left, int64_t stop, memory, int64_t offset, int64_t places):
        """Set what a Loop will do: at most `left` operations, numbered from `first`, none from `stop` (ns) on.

        `places`: how many records fit into `memory` from `offset` on. Returns the course.
        """
        cdef unsigned char[::1] view
        cdef State *s = &self.state
        cdef bytes value
        cdef int at
        s.first, s.left, s.stop, s.places_left, s.done, s.problem = first, left, stop, places, 0, 0
        self.variables = variables
        if left and places:
            view = memory
            if offset < 0 or offset + places * RECORD > view.shape[0]:
                raise ValueError("the records do not fit")
            self.memory = view
            s.records = <char *> &view[0] + offset
        for at, name in enumerate(self.names):
            if name not in variables:
                s.left = 0  # Python says what is wrong
                return self
            if variables[name] is None:
                s.value[at].size = NULL_VALUE
            else:
                value = variables[name]
                if keep(&s.value[at], PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value)):
                    raise MemoryError
        return self

    cdef tuple result(self):
        """(operations done, round trip, start, answer): of the operation under way, if the round trip is not -1."""
        cdef State *s = &self.state
        cdef Value *value
        answer = None
        self.memory = None
        if s.at >= 0:
            for name in self.changes:
                value = &s.value[<int> self.names.index(name)]
                self.variables[name] = None if value.size < 0 else PyBytes_FromStringAndSize(value.text, value.size)
            if s.problem:
                answer = OSError(s.problem, os.strerror(s.problem))
            elif s.at < s.trips:
                answer = PyBytes_FromStringAndSize(s.answer, s.answer_size)
        return s.done, s.at, s.start, answer


cdef class Loop:
    """Waits for sockets, and runs the courses among them."""

    cdef int epoll, only
    cdef State **courses
    cdef int size
    cdef dict running
    cdef set watched
    cdef list ended

    def __cinit__(self):
        self.courses, self.size = NULL, 0
        self.running, self.watched, self.ended = {}, set(), []
        self.only = -1
        self.epoll = epoll_create1(EPOLL_CLOEXEC)
        if self.epoll < 0:
            raise OSError(errno, os.strerror(errno))

    def __dealloc__(self):
        free(self.courses)

    def close(self):
        """Release the descriptor."""
        if self.epoll >= 0:
            os.close(self.epoll)
            self.epoll = -1

    def watch(self, int fd):
        """Wait for a socket from now on."""
        cdef epoll_event event
        cdef State **more
        event.events, event.data.fd = EPOLLIN, fd
        if epoll_ctl(self.epoll, EPOLL_CTL_ADD, fd, &event):
            raise OSError(errno, os.strerror(errno))
        if fd >= self.size:
            more = <State **> realloc(self.courses, (fd + 64) * sizeof(State *))
            if more == NULL:
                raise MemoryError
            memset(more + self.size, 0, (fd + 64 - self.size) * sizeof(State *))
            self.courses, self.size = more, fd + 64
        self.watched.add(fd)
        self.only = fd if len(self.watched) == 1 else -1

    def forget(self, int fd):
        """Do not wait for a socket any longer; it may have been closed."""
        cdef epoll_event event
        epoll_ctl(self.epoll, EPOLL_CTL_DEL, fd, &event)
        self.watched.discard(fd)
        self.only = next(iter(self.watched)) if len(self.watched) == 1 else -1

    def start(self, Course course):
        """Run a course, whose socket is watched, until its result is returned by `wait`."""
        cdef int fd = course.state.fd
        cdef bint ended
        if fd not in self.watched:
            raise ValueError(f"the socket {fd} is not watched")
        self.running[fd] = course
        with nogil:
            ended = begin(&course.state)
        if ended:
            self.ended.append(fd)
        else:
            self.courses[fd] = &course.state

    def wait(self, timeout):
        """Return [(socket, result)]: the result of a course that ended, None for a socket that can be read.

        `timeout`: seconds; None to wait without a limit.
        """
        cdef int ready[BATCH]
        cdef int count, at, fd
        cdef int64_t until = -1 if timeout is None else clock() + <int64_t> (timeout * 1e9)
        if self.ended:
            found, self.ended = self.ended, []
            return [(fd, (<Course> self.running.pop(fd)).result()) for fd in found]
        with nogil:
            count = self.turn(ready, until)
        if count < 0:
            if errno != EINTR:
                raise OSError(errno, os.strerror(errno))
            count = 0  # signals are handled on the way back to Python
        found = []
        for at in range(count):
            fd = ready[at]
            self.courses[fd] = NULL
            course = self.running.pop(fd, None)
            found.append((fd, None if course is None else (<Course> course).result()))
        return found

    cdef int turn(self, int *ready, int64_t until) noexcept nogil:
        """Wait and run courses until Python has to do something: how many sockets are `ready`; -1 for an error."""
        cdef epoll_event events[BATCH]
        cdef pollfd one
        cdef int count, at, fd, ended = 0
        cdef int timeout = -1
        cdef int64_t left
        while True:
            if until >= 0:
                left = max(until - clock(), 0)
                timeout = <int> min((left + 999999) // 1000000, 1000000)
            if self.only >= 0:
                one.fd, one.events, one.revents = self.only, POLLIN, 0
                count = poll(&one, 1, timeout)
                events[0].data.fd = self.only
            else:
                count = epoll_wait(self.epoll, events, BATCH, timeout)
            if count < 0:
                return -1
            for at in range(count):
                fd = events[at].data.fd
                if self.courses[fd] == NULL or receive(self.courses[fd]):
                    ready[ended] = fd
                    ended += 1
            if ended or (until >= 0 and clock() >= until):
                return ended
