/* SPDX-License-Identifier: MIT */
/*
 * Berth in a kernel: the core alone, without a C library. What a kernel author has to supply is all
 * in this file and in berth_port.h beside it:
 *
 *	memcpy, memmove, memset, memcmp
 *	a lock, a CPU number                       berth_port.h
 *	a clock, a way to wait and a way to stop   port_ops
 *	metadata, at most 32 bytes a frame         metadata
 *	for memory that can move, somebody who moves it: process_ops
 *
 * Linux is only the stand-in for a machine: system calls print and exit, a static array is the RAM.
 *
 *	cc -O2 -ffreestanding -fno-stack-protector -fno-tree-loop-distribute-patterns -fno-pie \
 *		-nostdlib -static -Iexamples/embed -Iinclude -I. examples/embed/main.c \
 *		$(find core -name '*.c') -o embed && ./embed
 */
#include <berth/core.h>
#include <berth_port.h>

/* ---- The machine: a console and a power switch ------------------------------------------------------ */

static long system_call(long number, long a, long b, long c)
{
#if defined(__x86_64__)
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c)
			 : "rcx", "r11", "memory");
	return result;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;

	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
	return x0;
#else
#error "write and exit for this machine, please"
#endif
}

#if defined(__x86_64__)
#define SYSTEM_CALL_WRITE 1
#define SYSTEM_CALL_EXIT 60
__asm__(".globl _start\n"
	"_start:\n"
	"	xor %ebp, %ebp\n"
	"	and $-16, %rsp\n"
	"	call kernel_main\n"
	"	ud2\n");
#else
#define SYSTEM_CALL_WRITE 64
#define SYSTEM_CALL_EXIT 93
__asm__(".globl _start\n"
	"_start:\n"
	"	mov x29, #0\n"
	"	mov x30, #0\n"
	"	bl kernel_main\n"
	"	brk #0\n");
#endif

static _Noreturn void power_off(int status)
{
	for (;;)
		system_call(SYSTEM_CALL_EXIT, status, 0, 0);
}

static void print(const char *text)
{
	size_t length = 0;

	while (text[length])
		length++;
	system_call(SYSTEM_CALL_WRITE, 1, (long)text, (long)length);
}

static void print_number(uint64_t value, unsigned base)
{
	char digits[24];
	unsigned at = sizeof(digits) - 1;

	digits[at] = 0;
	do {
		digits[--at] = "0123456789abcdef"[value % base];
	} while (value /= base);
	print(base == 16 ? "0x" : "");
	print(&digits[at]);
}

/* Prints each %u in decimal and each %x in hexadecimal; the values are uint64_t. */
static void say(const char *format, const uint64_t *values)
{
	char text[2] = { 0 };

	for (; *format; format++) {
		if (*format == '%') {
			print_number(*values++, *++format == 'x' ? 16 : 10);
			continue;
		}
		text[0] = *format;
		print(text);
	}
}
#define SAY(format, ...) say(format, (const uint64_t[]){ __VA_ARGS__ })

/* ---- What the core takes from a C library --------------------------------------------------------- */

void *memcpy(void *to, const void *from, size_t bytes);
void *memmove(void *to, const void *from, size_t bytes);
void *memset(void *to, int value, size_t bytes);
int memcmp(const void *a, const void *b, size_t bytes);

void *memcpy(void *to, const void *from, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		((char *)to)[i] = ((const char *)from)[i];
	return to;
}

void *memmove(void *to, const void *from, size_t bytes)
{
	if ((uintptr_t)to <= (uintptr_t)from)
		return memcpy(to, from, bytes);
	while (bytes-- > 0)
		((char *)to)[bytes] = ((const char *)from)[bytes];
	return to;
}

void *memset(void *to, int value, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		((char *)to)[i] = (char)value;
	return to;
}

int memcmp(const void *a, const void *b, size_t bytes)
{
	const unsigned char *x = a, *y = b;

	for (size_t i = 0; i < bytes; i++)
		if (x[i] != y[i])
			return x[i] < y[i] ? -1 : 1;
	return 0;
}

/* ---- The cold half of the port ------------------------------------------------------------------------ */

static uint64_t now_ns(void *ctx)
{
	static uint64_t ticks;

	(void)ctx;
	return ticks += 100; /* a kernel reads its timer */
}

static void barrier_all(void *ctx)
{
	(void)ctx; /* one CPU: nobody else has to pass a barrier */
}

static void wait(void *ctx, uint64_t ns)
{
	(void)ctx; /* a kernel schedules somebody else */
	(void)ns;
	berth_relax();
}

static _Noreturn void panic(void *ctx, const char *what, uint64_t value, uint64_t expected)
{
	(void)ctx;
	print("panic: ");
	print(what);
	SAY(": found %x, against %x\n", value, expected);
	power_off(1);
}

static const struct berth_port_ops port_ops = { .now_ns = now_ns,
						.barrier_all = barrier_all,
						.wait = wait,
						.panic = panic };

/* Stops when an action that can't fail here does. */
static void must(const char *what, int error)
{
	if (error)
		panic(NULL, what, (uint64_t)-error, 0);
}

/* ---- Physical memory, as the firmware describes it ------------------------------------------------------ */

#define MIB(n) ((uint64_t)(n) << 20)
#define PAGES(bytes) ((bytes) >> BERTH_PAGE_SHIFT)
#define RAM_START MIB(1024) /* physical address */
#define RAM_BYTES MIB(64)

struct memory_range {
	uint64_t start, bytes;
};

/* What is free: between firmware tables and the kernel's image, and behind that. */
static const struct memory_range usable[] = {
	{ RAM_START + MIB(1), MIB(3) },
	{ RAM_START + MIB(6), RAM_BYTES - MIB(6) },
};

static _Alignas(4096) char ram[RAM_BYTES];
static _Alignas(64) char metadata[MIB(1)];

static char *frame_address(berth_pfn_t pfn)
{
	return ram + ((pfn - PAGES(RAM_START)) << BERTH_PAGE_SHIFT);
}

/* ---- A process: owner of movable memory ----------------------------------------------------------------- */

struct process {
	struct berth_zone *zone;
	unsigned owner;
	uint64_t nr_pages;
	berth_pfn_t page_table[PAGES(RAM_BYTES)];
};

static struct process process;

/*
 * The core wants these blocks elsewhere. A block's cookie is the process' page that it holds, as
 * was said when it was allocated. Freezing fails for a block that is pinned meanwhile. With more CPUs
 * the pages are write-protected before the copy, and the TLBs flushed after it.
 */
static void process_migrate(void *ctx, struct berth_move *moves, unsigned nr_moves)
{
	struct process *p = ctx;

	for (unsigned i = 0; i < nr_moves; i++) {
		struct berth_move *move = &moves[i];
		uint64_t nr_pages = 1ull << move->order;

		if (!berth_page_freeze(p->zone, move->src)) {
			move->result = BERTH_MOVE_BUSY;
			move->holder = "a device";
			continue;
		}
		memcpy(frame_address(move->dst), frame_address(move->src),
		       nr_pages << BERTH_PAGE_SHIFT);
		for (uint64_t page = 0; page < nr_pages; page++)
			p->page_table[move->cookie + page] = move->dst + page;
		move->result = BERTH_MOVE_MOVED;
	}
}

static const struct berth_owner_ops process_ops = { .name = "process", .migrate = process_migrate };

/* The machine's load from a virtual address. */
static uint64_t *process_word(const struct process *p, uint64_t page)
{
	return (uint64_t *)(void *)frame_address(p->page_table[page]);
}

/* Grows the process by 2^order pages; each page holds its own number. */
static int process_grow(struct process *p, unsigned order)
{
	berth_pfn_t pfn;
	int error = berth_alloc_pages(p->zone, order, BERTH_GFP_MOVABLE, p->owner, p->nr_pages,
				      &pfn);

	if (error)
		return error;
	for (uint64_t end = p->nr_pages + (1ull << order); p->nr_pages < end; p->nr_pages++) {
		p->page_table[p->nr_pages] = pfn++;
		*process_word(p, p->nr_pages) = p->nr_pages;
	}
	return 0;
}

static void process_exit(struct process *p)
{
	for (uint64_t page = 0; page < p->nr_pages; page++)
		must("free a page", berth_free_range(p->zone, p->page_table[page], 1, p->owner));
	p->nr_pages = 0;
}

/* How many pages lie in the range; stops if one has lost its contents. */
static uint64_t process_pages_in(const struct process *p, berth_pfn_t start, uint64_t nr_pages)
{
	uint64_t nr = 0;

	for (uint64_t page = 0; page < p->nr_pages; page++) {
		if (*process_word(p, page) != page)
			panic(NULL, "a page lost its contents", *process_word(p, page), page);
		nr += p->page_table[page] - start < nr_pages;
	}
	return nr;
}

/* ---- The kernel ------------------------------------------------------------------------------------------- */

static struct berth_zone *zone;

static void boot_memory(void)
{
	const struct berth_zone_params params = {
		.name = "ram",
		.start_pfn = PAGES(RAM_START),
		.nr_pages = PAGES(RAM_BYTES),
		.nr_cpus = 1,
		.max_areas = 1,
		.metadata_is_zeroed = true,
		.port = &port_ops,
	};

	must("zone", berth_zone_init(&zone, &params, metadata, sizeof(metadata)));
	for (size_t i = 0; i < sizeof(usable) / sizeof(usable[0]); i++)
		must("memory",
		     berth_zone_add_memory(zone, PAGES(usable[i].start), PAGES(usable[i].bytes)));
	SAY("zone of %u MiB, %u bytes of metadata\n", RAM_BYTES >> 20,
	    berth_zone_metadata_size(&params));
}

static void verify(void)
{
	struct berth_violation violation;
	struct berth_zone_stats stats;

	if (!berth_zone_check(zone, &violation))
		panic(NULL, violation.what, violation.value, violation.expected);
	berth_zone_stats(zone, &stats);
	SAY("  free %u + used %u + claimed %u = %u pages, every invariant holds\n",
	    stats.free_pages + stats.pcp_pages, stats.used_pages, stats.claimed_pages,
	    stats.managed_pages);
}

_Noreturn void kernel_main(void);

_Noreturn void kernel_main(void)
{
	static uint64_t bitmap[PAGES(MIB(32)) / 64];
	const struct berth_cma_params camera_params = {
		.name = "camera",
		.start_pfn = PAGES(RAM_START + MIB(32)),
		.nr_pages = PAGES(MIB(32)),
		.lend = BERTH_LEND_FIRST,
		.bitmap = bitmap,
	};
	const struct berth_claim_params claim = { .nr_pages = PAGES(MIB(24)) };
	struct berth_claim_report report;
	struct berth_cma *camera;
	berth_pfn_t table, frames;

	boot_memory();
	must("area", berth_cma_declare(zone, &camera_params, &camera));
	must("owner", berth_owner_register(zone, &process_ops, &process, &process.owner));
	process.zone = zone;

	must("page table",
	     berth_alloc_pages(zone, 2, BERTH_GFP_UNMOVABLE, BERTH_OWNER_NONE, 0, &table));
	SAY("4 pages that never move, at %x\n", table << BERTH_PAGE_SHIFT);
	for (unsigned order = 0; process.nr_pages < PAGES(MIB(30)); order = (order + 1) % 8)
		must("process memory", process_grow(&process, order));
	SAY("a process of %u pages, %u of them lent by the camera's area\n", process.nr_pages,
	    process_pages_in(&process, camera_params.start_pfn, camera_params.nr_pages));
	verify();

	must("claim", berth_cma_alloc(camera, &claim, &frames, &report));
	memset(frame_address(frames), 0xff, MIB(24)); /* the camera films */
	SAY("claimed %u pages at %x: %u were free, %u moved out\n", claim.nr_pages,
	    frames << BERTH_PAGE_SHIFT, report.free_pages_taken, report.moved_pages);
	SAY("the process has its contents, and %u pages in the camera's way\n",
	    process_pages_in(&process, frames, claim.nr_pages));
	verify();

	must("release", berth_cma_release(camera, frames, claim.nr_pages));
	process_exit(&process);
	must("free", berth_free_pages(zone, table));
	print("released, freed\n");
	verify();
	power_off(0);
}
