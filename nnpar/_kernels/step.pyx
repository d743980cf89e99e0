"""A step is one prepared operation; a program is a list of steps run by one call.

A step is made from checked arguments. Its shapes, pointers, algorithm and workspace are fixed when it is made;
running it allocates nothing and cannot fail. The number of threads that take part never changes a bit of the result.

Tasks that take long are dealt to the threads in shares that follow each other, and each thread has scratch memory of
its own, at the same place in all steps of a plan: so it finds in its own cache what it wrote in the step before. That
counts most where threads are far apart, on machines of several sockets or third-level caches.

Only a signal ends a step before it is done: its threads ask `goes_on` before each task of a loop that can be long, and
once a signal's handler has raised, as Ctrl-C's does, no task begins. What the step writes is then unfinished, and `end`
raises. Steps that change weights do not ask, so that weights are always those after a whole update.
"""

import numpy

from cpython.buffer cimport (PyBUF_FORMAT, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_CheckBuffer,
                             PyObject_GetBuffer)
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cython.parallel cimport threadid
from libc.stdint cimport int64_t, uint8_t, uintptr_t
from libc.string cimport memset, strcmp
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from nnpar._kernels.runtime cimport thread_count

cdef enum:
    ALIGNMENT = 64  # bytes: a cache line, and the widest vector
    STREAM_BYTES = 64 << 20
    LINE = 16       # floats in a cache line
    SHARE_BYTES = 64  # of a thread's scratch memory, for its tasks: a cache line, which others rarely look at

# Work that pays for one more thread: waking it costs 2 to 3 microseconds, in which a core computes or moves about
# this much.
cdef double FLOPS_PER_THREAD = 5e5
cdef double BYTES_PER_THREAD = 1e5

cdef double PATIENCE = 0.05  # seconds between two looks at signals


cdef extern from *:
    """
    typedef struct { Py_ssize_t next, end; } nnp_share;

    static Py_ssize_t nnp_take(nnp_share *share) {
        if (__atomic_load_n(&share->next, __ATOMIC_RELAXED) >= share->end) return -1;
        Py_ssize_t task = __atomic_fetch_add(&share->next, 1, __ATOMIC_RELAXED);
        return task < share->end ? task : -1;
    }
    """
    ctypedef struct nnp_share:
        Py_ssize_t next, end

    Py_ssize_t nnp_take(nnp_share *share) noexcept nogil


cdef Py_ssize_t aligned(Py_ssize_t size) noexcept nogil:
    return (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


cdef Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return (a + b - 1) // b


cdef Py_ssize_t odd_lines(Py_ssize_t floats) noexcept nogil:
    """Floats rounded up to an odd number of cache lines: matrices so far apart lie in different sets of a cache."""
    return LINE * (ceil_div(floats, LINE) | 1)


cdef bint streams(Py_ssize_t floats) noexcept nogil:
    """Whether a result is so large that few caches hold it until it is read: better written past them, since what goes
    into a cache is first read from memory."""
    return 4 * floats >= STREAM_BYTES


cdef double seconds() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + 1e-9 * now.tv_nsec


def aligned_empty(Py_ssize_t nbytes):
    """Uninitialised bytes, ndarray of shape (nbytes,), uint8, that begin at a multiple of 64."""
    raw = numpy.empty(nbytes + ALIGNMENT, numpy.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start:start + nbytes]


cdef class Step:
    """One prepared operation. Subclasses fill in `run`.

    Attributes
    ----------
    name : str
        What it does, for people.
    layer : str
        For whom: a layer's name, or "".
    flops, bytes : float
        Arithmetic operations, and bytes that it must read and write at least.
    shared_bytes, thread_bytes : int
        Scratch memory that its threads share, and that each of them needs.
    most_threads : int
        That take part, at most.
    workspace_bytes : int
        All scratch memory, which `bind` must be given before the step runs.
    prepacked_bytes : int
        Of its weights in the order in which it reads them, if it was made to have them packed once, by `prepack`,
        before it runs; 0 if it reads them as they are, or packs them in each run.
    """

    def __cinit__(self):
        self.name = type(self).__name__
        self.layer = ""
        self.arrays = []
        self.most_threads = 1
        self.workspace = self.threads = self.prepacked = NULL

    cdef void run(self) noexcept nogil:
        pass

    cdef void pack_weights(self, char *scratch) noexcept nogil:
        """Fill `prepacked`, with `scratch_bytes` of scratch memory."""
        pass

    cdef bint goes_on(self) noexcept nogil:
        """Whether a task may begin. The thread that runs the step looks at signals now and then; the others learn it
        from `stopped`, sooner or later."""
        cdef double now
        if threadid() == 0 and not self.stopped:
            now = seconds()
            if now - self.checked > PATIENCE:
                self.checked = now
                self.look()
        return not self.stopped

    # A function of its own: one that may take the lock is slow even where it does not.
    cdef void look(self) noexcept with gil:
        """Let Python handle the signals that came, and stop if a handler raises."""
        try:
            PyErr_CheckSignals()
        except BaseException as error:
            self.error = error
            self.stopped = True

    cdef int end(self) except -1:
        """Raise what a signal's handler raised while the step ran."""
        if self.stopped:
            error, self.error, self.stopped = self.error, None, False
            raise error
        return 0

    cdef int team(self) noexcept nogil:
        return min(self.most_threads, thread_count())

    cdef int need(self, Py_ssize_t shared, Py_ssize_t own=-1) except -1:
        """State the bytes of scratch memory: shared, and each thread's own, where there may be tasks to deal, too."""
        self.shared_bytes = aligned(shared)
        self.thread_bytes = SHARE_BYTES + aligned(own) if own >= 0 else 0
        return 0

    cdef char *own(self) noexcept nogil:
        """The calling thread's own scratch memory."""
        return self.threads + threadid() * self.thread_step + SHARE_BYTES

    cdef void deal(self, Py_ssize_t tasks) noexcept nogil:
        """Before a parallel region: cut the tasks into shares, one for each thread of the team, for `take`."""
        cdef Py_ssize_t i
        cdef nnp_share *share
        self.shares = self.team()
        for i in range(self.shares):
            share = <nnp_share *> (self.threads + i * self.thread_step)
            share.next, share.end = tasks * i // self.shares, tasks * (i + 1) // self.shares

    cdef Py_ssize_t take(self, Py_ssize_t share) noexcept nogil:
        """A task of this share, or, when it is done, of those after it; -1 if none is left or a signal ends the step.
        Which thread does a task changes no bit."""
        cdef Py_ssize_t i, task
        if not self.goes_on():
            return -1
        for i in range(self.shares):
            task = nnp_take(<nnp_share *> (self.threads + (share + i) % self.shares * self.thread_step))
            if task >= 0:
                return task
        return -1

    cdef cost(self, double flops, double bytes):
        """State the work; it decides how many threads pay off, out of those there are now."""
        self.flops = flops
        self.bytes = bytes
        worth = 1 + max(flops / FLOPS_PER_THREAD, bytes / BYTES_PER_THREAD)
        self.most_threads = max(1, min(<Py_ssize_t> min(worth, 1e6), thread_count()))

    cdef void *address(self, array, bytes code, bint write, list keep) except? NULL:
        """Where an array's first element lies; `keep` keeps the array alive. Its struct code, and writability, are
        checked."""
        cdef Py_buffer view
        if not PyObject_CheckBuffer(array):
            raise TypeError(f"{self.name}: expected an array, got {type(array).__name__}")
        PyObject_GetBuffer(array, &view, PyBUF_STRIDES | PyBUF_FORMAT | (PyBUF_WRITABLE if write else 0))
        try:
            if strcmp(view.format, code) != 0 and not (code == b"q" and strcmp(view.format, b"l") == 0):
                raise TypeError(f"{self.name}: expected elements {code.decode()!r}, got {view.format.decode()!r}")
            keep.append(array)
            return view.buf
        finally:
            PyBuffer_Release(&view)

    cdef float *floats(self, array, bint write=False) except? NULL:
        return <float *> self.address(array, b"f", write, self.arrays)

    cdef float *weights(self, array) except? NULL:
        """Like `floats`, of what is not read any more once it is packed."""
        self.unpacked = []
        return <float *> self.address(array, b"f", False, self.unpacked)

    cdef uint8_t *octets(self, array, bint write=False) except? NULL:
        return <uint8_t *> self.address(array, b"B", write, self.arrays)

    cdef int64_t *labels(self, array) except? NULL:
        return <int64_t *> self.address(array, b"q", False, self.arrays)

    cdef double *doubles(self, array) except? NULL:
        return <double *> self.address(array, b"d", True, self.arrays)

    @property
    def workspace_bytes(self):
        return self.shared_bytes + self.most_threads * self.thread_bytes

    def bind(self, workspace, threads=None):
        """Give the step its scratch memory, uint8, at multiples of 64. It may be shared by steps that do not run at the
        same time.

        Parameters
        ----------
        workspace : ndarray
            At least `shared_bytes`, or `workspace_bytes` without `threads`.
        threads : ndarray of shape (threads, bytes), optional
            A row for each thread, at least `most_threads` of `thread_bytes`.
        """
        if threads is None:
            rows = workspace[self.shared_bytes:self.workspace_bytes]
            threads = rows.reshape(self.most_threads, -1) if len(rows) else rows.reshape(0, 0)
            self.memory(workspace, self.workspace_bytes)
        if self.shared_bytes > 0:
            self.workspace = self.memory(workspace, self.shared_bytes)
        if self.thread_bytes > 0:
            if threads.shape[0] < self.most_threads or threads.shape[1] < self.thread_bytes:
                raise ValueError(f"{self.name}: expected {self.most_threads} rows of {self.thread_bytes} bytes of "
                                 f"memory, got {threads.shape}")
            self.threads, self.thread_step = self.memory(threads, threads.nbytes), threads.strides[0]
            if self.thread_step % ALIGNMENT != 0:
                raise ValueError(f"{self.name}: expected rows at multiples of {ALIGNMENT} bytes")

    def prepack(self, memory, bint fill=True):
        """Pack the weights into memory (uint8, at least `prepacked_bytes`, at a multiple of 64), once: runs read them
        there, and the weights may go.

        Parameters
        ----------
        memory : ndarray
        fill : bool
            False if a step for the same weights and another input has done it.
        """
        cdef char *address
        if self.prepacked_bytes == 0:
            return
        self.prepacked = self.memory(memory, self.prepacked_bytes)
        if fill:
            scratch = aligned_empty(self.scratch_bytes)
            address = <char *> self.address(scratch, b"B", True, [])
            with nogil:
                self.pack_weights(address)
        self.unpacked = None

    cdef char *memory(self, array, Py_ssize_t nbytes) except NULL:
        cdef char *address = <char *> self.octets(array, write=True)
        if array.nbytes < nbytes:
            raise ValueError(f"{self.name}: expected {nbytes} bytes of memory, got {array.nbytes}")
        if <uintptr_t> address % ALIGNMENT != 0:
            raise ValueError(f"{self.name}: expected memory at a multiple of {ALIGNMENT} bytes")
        return address

    @property
    def is_bound(self):
        """Whether it has the scratch memory that it needs."""
        return ((self.shared_bytes == 0 or self.workspace != NULL)
                and (self.thread_bytes == 0 or self.threads != NULL))

    @property
    def is_prepacked(self):
        """Whether it has its weights packed, if they have to be."""
        return self.prepacked_bytes == 0 or self.prepacked != NULL

    def __call__(self):
        """Run once, with memory of its own where it has none."""
        if not self.is_prepacked:
            self.prepack(aligned_empty(self.prepacked_bytes))
        if not self.is_bound:
            self.bind(aligned_empty(self.workspace_bytes))
        self.checked = seconds()
        with nogil:
            self.run()
        self.end()


cdef class PythonStep(Step):
    """A call of a Python function, which may raise: then the program ends after it, and raises that.

    Parameters
    ----------
    function : callable
    name : str
    nbytes : float
        That it reads and writes, for the profile.
    """

    cdef object function

    def __init__(self, function, name, double nbytes=0):
        self.function, self.name = function, name
        self.cost(0, nbytes)

    cdef void run(self) noexcept nogil:
        with gil:
            try:
                self.function()
            except BaseException as error:
                self.error = error
                self.stopped = True


cdef class Program:
    """Steps that run in order by one call. Those without a workspace of their own share one.

    Parameters
    ----------
    steps : sequence of Step
    """

    cdef readonly tuple steps
    cdef readonly Py_ssize_t runs
    cdef void **pointers
    cdef double *stamps     # when the latest run began and each of its steps ended; the seconds of each in all runs
    cdef Py_ssize_t count

    def __cinit__(self, steps):
        cdef Step step
        self.steps = tuple(steps)
        self.count = len(self.steps)
        self.pointers = <void **> PyMem_Malloc(max(self.count, 1) * sizeof(void *))
        self.stamps = <double *> PyMem_Malloc((2 * self.count + 1) * sizeof(double))
        if self.pointers == NULL or self.stamps == NULL:
            raise MemoryError
        memset(self.stamps, 0, (2 * self.count + 1) * sizeof(double))
        workspace = aligned_empty(max((step.workspace_bytes for step in self.steps if not step.is_bound), default=0))
        for i in range(self.count):
            step = self.steps[i]
            if not step.is_bound:
                step.bind(workspace)
            if not step.is_prepacked:
                step.prepack(aligned_empty(step.prepacked_bytes))
            self.pointers[i] = <void *> step

    def __dealloc__(self):
        PyMem_Free(self.pointers)
        PyMem_Free(self.stamps)

    @property
    def seconds(self):
        """Seconds that each step took, the mean over all runs so far but the first, which touches new memory, if there
        are more; list of float."""
        return [self.stamps[self.count + 1 + i] / max(self.runs - 1, 1) for i in range(self.count)]

    def run(self):
        """Run all steps. Ctrl-C is answered between two of them or two tasks of a long one, at most every 50 ms.

        Raises
        ------
        KeyboardInterrupt
            Or whatever a signal handler raises; that step may be unfinished, and those after it have not run.
        """
        cdef Py_ssize_t i
        cdef double checked, now
        if self.runs == 1:
            memset(self.stamps + self.count + 1, 0, self.count * sizeof(double))
        with nogil:
            checked = self.stamps[0] = seconds()
            for i in range(self.count):
                (<Step> self.pointers[i]).checked = checked
                (<Step> self.pointers[i]).run()
                now = self.stamps[i + 1] = seconds()
                self.stamps[self.count + 1 + i] += now - self.stamps[i]
                checked = (<Step> self.pointers[i]).checked
                if (<Step> self.pointers[i]).stopped or now - checked > PATIENCE:
                    checked = now
                    with gil:
                        (<Step> self.pointers[i]).end()
                        PyErr_CheckSignals()
        self.runs += 1
        for record in recorders:
            record(self.steps, [self.stamps[i] for i in range(self.count + 1)])


# Called after every run of a program, with its steps and the time, in seconds of a clock that only goes forward, when
# the run began and when each step ended.
recorders = []
