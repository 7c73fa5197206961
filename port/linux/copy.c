/* SPDX-License-Identifier: MIT */
#include "port/linux/copy.h"

#include <stdint.h>
#include <string.h>

#ifdef __x86_64__
#include <emmintrin.h>

/* The machine finds out what is read next in the first pages of a run: shorter ones are copied faster by memcpy(). */
#define STREAM_LEAST ((size_t)64 << 10)
#define AHEAD 4096u /* bytes that are fetched ahead */
#define CHUNK 256u

/*
 * CHUNK bytes at a time are read, then written, so that a line is written whole at once, and reads and writes
 * don't take turns at each line.
 */
static void stream(char *dst, const char *src, size_t bytes)
{
	for (size_t at = 0; at < bytes; at += CHUNK) {
		__m128i words[CHUNK / sizeof(__m128i)];

		for (size_t i = 0; i < CHUNK; i += 64)
			_mm_prefetch(src + at + AHEAD + i, _MM_HINT_NTA);
		for (size_t i = 0; i < CHUNK / sizeof(__m128i); i++)
			words[i] = _mm_load_si128((const __m128i *)(const void *)(src + at) + i);
		for (size_t i = 0; i < CHUNK / sizeof(__m128i); i++)
			_mm_stream_si128((__m128i *)(void *)(dst + at) + i, words[i]);
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

#else

void berth_copy(void *dst, const void *src, size_t bytes)
{
	memcpy(dst, src, bytes);
}

#endif
