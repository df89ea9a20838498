/* What the files of the library share. */
#ifndef NETWASM_INTERNAL_H
#define NETWASM_INTERNAL_H

#include "bindings.h"
#include "netwasm.h"

/* Keeps the text of an error of the host's, frees it, and returns its kind. */
nw_code nw__failed(netwasm_net_types_error_t *error);
/* Lends a text to the host. */
bindings_string_t nw__string(const char *text);
/* Allocates zeroed memory, or ends the instance. */
void *nw__alloc(size_t size);
/* Formats a text, which the caller frees. */
char *nw__format(const char *format, va_list arguments, size_t *length);

#endif
