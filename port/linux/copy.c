/* SPDX-License-Identifier: MIT */
#include "port/linux/copy.h"

#include <stdint.h>
#include <string.h>

#define PAGE_BYTES ((size_t)4096)

#ifdef __x86_64__
#include <emmintrin.h>

/* The machine finds out what is read next in the first pages of a run: shorter ones are copied faster by memcpy(). */
#define STREAM_LEAST ((size_t)64 << 10)
#define STREAM_PAGES 3u /* and that few are, too */
#define AHEAD 4096u     /* bytes that are fetched ahead, also behind the end: that faults nowhere */
#define CHUNK 256u

/* Read, then written, so that a line is written whole at once, and reads and writes don't take turns at each line. */
static inline void stream_chunk(char *dst, const char *src)
{
	__m128i words[CHUNK / sizeof(__m128i)];

	for (size_t i = 0; i < CHUNK / sizeof(__m128i); i++)
		words[i] = _mm_load_si128((const __m128i *)(const void *)src + i);
	for (size_t i = 0; i < CHUNK / sizeof(__m128i); i++)
		_mm_stream_si128((__m128i *)(void *)dst + i, words[i]);
}

static void stream(char *dst, const char *src, size_t bytes)
{
	for (size_t at = 0; at < bytes; at += CHUNK) {
		for (size_t i = 0; i < CHUNK; i += 64)
			_mm_prefetch(src + at + AHEAD + i, _MM_HINT_NTA);
		stream_chunk(dst + at, src + at);
	}
	_mm_sfence(); /* what is stored past the caches isn't ordered with later stores */
}

void berth_copy(void *dst, const void *src, size_t bytes)
{
	if (bytes < STREAM_LEAST || ((uintptr_t)dst | (uintptr_t)src | bytes) % CHUNK)
		memcpy(dst, src, bytes);
	else
		stream(dst, src, bytes);
}

void berth_copy_pages(void *const *dst, const void *const *src, unsigned nr)
{
	if (nr < STREAM_PAGES) {
		for (unsigned i = 0; i < nr; i++)
			memcpy(dst[i], src[i], PAGE_BYTES);
		return;
	}
	for (size_t at = 0; at < PAGE_BYTES; at += CHUNK)
		for (unsigned i = 0; i < nr; i++)
			stream_chunk((char *)dst[i] + at, (const char *)src[i] + at);
	_mm_sfence();
}

#else

void berth_copy(void *dst, const void *src, size_t bytes)
{
	memcpy(dst, src, bytes);
}

void berth_copy_pages(void *const *dst, const void *const *src, unsigned nr)
{
	for (unsigned i = 0; i < nr; i++)
		memcpy(dst[i], src[i], PAGE_BYTES);
}

#endif
