// SPDX-License-Identifier: MIT
/*
 * Tenant: modules loaded with RTLD_DEEPBIND, as PHP loads its own.
 *
 * Such a module finds free() in the C library, before the program's allocator, and is given blocks
 * of the program's heap, and gives blocks of its own. It loads a second module by its bare name,
 * which only its own search path ($ORIGIN/inner) leads to. This file is all three: the program,
 * the module (-DMODULE), and the inner module (-DINNER).
 *
 *     deepbind MODULE
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(INNER)

char *change(char *text);
char *change(char *text)
{
	char *other = strdup(text);

	free(text);
	return realloc(other, strlen(other) + 100);
}

#elif defined(MODULE)

char *pass_on(char *text);
char *pass_on(char *text)
{
	void *inner = dlopen("deepbind_inner.so", RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
	char *(*change)(char *);

	if (!inner) {
		fprintf(stderr, "%s\n", dlerror());
		return NULL;
	}
	*(void **)&change = dlsym(inner, "change");
	return change ? change(text) : NULL;
}

#else

int main(int argc, char **argv)
{
	void *module = argc == 2 ? dlopen(argv[1], RTLD_LAZY | RTLD_DEEPBIND) : NULL;
	char *(*pass_on)(char *);
	char text[64];

	if (!module) {
		fprintf(stderr, "%s\n", argc == 2 ? dlerror() : "usage: deepbind MODULE");
		return 2;
	}
	*(void **)&pass_on = dlsym(module, "pass_on");
	for (int i = 0; i < 10000 && pass_on; i++) {
		snprintf(text, sizeof(text), "text %d", i);
		char *back = pass_on(strdup(text));
		if (!back || strcmp(back, text) != 0)
			return 1;
		free(back);
	}
	puts("10000 texts came back");
	return pass_on ? 0 : 2;
}

#endif
