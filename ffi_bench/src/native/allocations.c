/*
 * allocations.c
 *		Counts the heap allocations of the calling thread.
 *
 * The program is linked against this shared object before libc, so that every
 * malloc() of the process ends up here: those of the static library, of
 * getaddrinfo() in libc, and of Rust's std.  This is how glibc wants malloc to
 * be replaced ("Replacing malloc" in its manual); __libc_malloc() and its
 * likes are the functions that would have been called.
 *
 * It costs one addition per allocation, on all contenders alike.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *old);

/* initial-exec, because any other model may itself allocate on first use */
static __thread uint64_t allocations
__attribute__((tls_model("initial-exec")));

uint64_t
bench_allocations(void)
{
	return allocations;
}

void *
malloc(size_t size)
{
	allocations++;
	return __libc_malloc(size);
}

void *
calloc(size_t count, size_t size)
{
	allocations++;
	return __libc_calloc(count, size);
}

void *
realloc(void *old, size_t size)
{
	allocations++;
	return __libc_realloc(old, size);
}

void *
memalign(size_t alignment, size_t size)
{
	allocations++;
	return __libc_memalign(alignment, size);
}

void *
aligned_alloc(size_t alignment, size_t size)
{
	return memalign(alignment, size);
}

int
posix_memalign(void **memory, size_t alignment, size_t size)
{
	void	   *got = memalign(alignment, size);

	if (got == NULL)
		return ENOMEM;
	*memory = got;
	return 0;
}

void
free(void *old)
{
	__libc_free(old);
}
