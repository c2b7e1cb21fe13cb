/*
 * Preloaded into linux.uml. On a processor whose saved state is longer than that kernel's buffer (2,696 bytes; AMX has 11,008)
 * the host refuses PTRACE_SETREGSET and the guest's first process dies ("ptrace set fp regs failed, errno = 14").
 * Here the host gets the length it wants, the rest being zero; a guest never has any state there.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { LONGEST = 65536, XSTATE_BV = 512 };

long ptrace(enum __ptrace_request request, ...)
{
	static _Alignas(64) unsigned char state[LONGEST];
	static size_t whole; /* what the host wants */

	va_list list;
	va_start(list, request);
	pid_t pid = va_arg(list, pid_t);
	void *address = va_arg(list, void *);
	void *data = va_arg(list, void *);
	va_end(list);

	struct iovec *theirs = data;
	if (request == PTRACE_SETREGSET && (uintptr_t)address == NT_X86_XSTATE && theirs->iov_len < LONGEST) {
		if (whole == 0) {
			struct iovec all = { state, LONGEST };
			if (syscall(SYS_ptrace, PTRACE_GETREGSET, pid, address, &all) == 0)
				whole = all.iov_len;
		}
		if (whole > theirs->iov_len) {
			uint64_t present;
			memset(state + theirs->iov_len, 0, whole - theirs->iov_len);
			memcpy(state, theirs->iov_base, theirs->iov_len);
			/* Components 0 to 9 lie in the guest's part. */
			memcpy(&present, state + XSTATE_BV, sizeof present);
			present &= 0x3ff;
			memcpy(state + XSTATE_BV, &present, sizeof present);
			struct iovec all = { state, whole };
			return syscall(SYS_ptrace, request, pid, address, &all);
		}
	}
	if (request == PTRACE_PEEKTEXT || request == PTRACE_PEEKDATA || request == PTRACE_PEEKUSER) {
		/* The system call stores the word; the library's function returns it. */
		long word;
		long result = syscall(SYS_ptrace, request, pid, address, &word);
		return result < 0 ? result : word;
	}
	return syscall(SYS_ptrace, request, pid, address, data);
}
