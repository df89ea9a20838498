/* The library of netwasm.h for HTTP, over the generated bindings. */
#ifdef NETWASM_HTTP

#include <stdlib.h>
#include <string.h>

#include "internal.h"

__attribute__((weak)) const nw_http nw_http_server = {0};

struct nw_deferred {
    void *user;
    /* True until the response, or until the client has left. */
    bool waits;
    /* The request, until on_request returns. */
    struct nw_request_parts *parts;
};

/* Parts of a request besides its fields. */
struct nw_request_parts {
    netwasm_net_http_borrow_request_t handle;
    nw_deferred *deferred;
    /* The response to a deferred request, if it came before on_request returned. */
    nw_response *now;
    /* Memory that is freed with the request. */
    void **kept;
    size_t count;
};

struct nw_response {
    netwasm_net_http_response_t inner;
};

static void *keep(struct nw_request_parts *parts, void *memory) {
    parts->kept = realloc(parts->kept, (parts->count + 1) * sizeof *parts->kept);
    if (!parts->kept) abort();
    parts->kept[parts->count++] = memory;
    return memory;
}

/* Ends a text of the host's by a NUL. */
static char *ended(struct nw_request_parts *parts, uint8_t *text, size_t length) {
    char *copy = nw__alloc(length + 1);
    memcpy(copy, text, length);
    if (length) free(text);
    return keep(parts, copy);
}

const char *nw_header(const nw_request *request, const char *name) {
    bindings_string_t text = nw__string(name);
    bindings_list_u8_t value;
    if (!netwasm_net_http_method_request_header(request->parts->handle, &text, &value)) return NULL;
    return ended(request->parts, value.ptr, value.len);
}

static int digit(char letter) {
    if (letter >= '0' && letter <= '9') return letter - '0';
    letter |= 0x20;
    return letter >= 'a' && letter <= 'f' ? letter - 'a' + 10 : -1;
}

/* Returns NULL for a percent sign without two digits, and for a NUL. */
static const char *decoded(struct nw_request_parts *parts, const char *text, size_t length,
                           bool is_query) {
    char *copy = nw__alloc(length + 1);
    size_t count = 0;
    for (size_t i = 0; i < length; i++) {
        char letter = text[i];
        if (letter == '%') {
            int high = i + 2 < length ? digit(text[i + 1]) : -1;
            int low = i + 2 < length ? digit(text[i + 2]) : -1;
            letter = high < 0 || low < 0 ? 0 : (char)(high << 4 | low);
            if (!letter) {
                free(copy);
                return NULL;
            }
            i += 2;
        } else if (is_query && letter == '+') {
            letter = ' ';
        }
        copy[count++] = letter;
    }
    copy[count] = 0;
    return keep(parts, copy);
}

const char *nw_decoded(const nw_request *request, const char *text) {
    return decoded(request->parts, text, strlen(text), false);
}

const char *nw_query(const nw_request *request, const char *name) {
    size_t wanted = strlen(name);
    for (const char *pair = request->query; pair;) {
        const char *end = strchr(pair, '&');
        size_t length = end ? (size_t)(end - pair) : strlen(pair);
        const char *equals = memchr(pair, '=', length);
        size_t named = equals ? (size_t)(equals - pair) : length;
        if (named == wanted && memcmp(pair, name, wanted) == 0) {
            const char *value = equals ? equals + 1 : pair + length;
            return decoded(request->parts, value, (size_t)(pair + length - value), true);
        }
        pair = end ? end + 1 : NULL;
    }
    return NULL;
}

const uint8_t *nw_body(const nw_request *request, size_t *length) {
    bindings_list_u8_t body;
    netwasm_net_http_method_request_body(request->parts->handle, &body);
    *length = body.len;
    return body.len ? keep(request->parts, body.ptr) : (const uint8_t *)"";
}

static void copy_to(bindings_list_u8_t *to, const void *data, size_t length) {
    to->ptr = nw__alloc(length ? length : 1);
    to->len = length;
    memcpy(to->ptr, data, length);
}

void nw_status(nw_response *response, uint16_t status) { response->inner.status = status; }

void nw_add_header(nw_response *response, const char *name, const char *value) {
    netwasm_net_http_fields_t *headers = &response->inner.headers;
    headers->ptr = realloc(headers->ptr, (headers->len + 1) * sizeof *headers->ptr);
    if (!headers->ptr) abort();
    bindings_tuple2_string_list_u8_t *field = &headers->ptr[headers->len++];
    bindings_list_u8_t copy;
    copy_to(&copy, name, strlen(name));
    field->f0 = (bindings_string_t){copy.ptr, copy.len};
    copy_to(&field->f1, value, strlen(value));
}

static void drop_body(netwasm_net_http_body_t *body) {
    if (body->tag == NETWASM_NET_HTTP_BODY_PATH) free(body->val.path.ptr);
    if (body->tag == NETWASM_NET_HTTP_BODY_BYTES) free(body->val.bytes.ptr);
    memset(body, 0, sizeof *body);
}

void nw_respond_bytes(nw_response *response, const void *data, size_t length) {
    netwasm_net_http_body_t *body = &response->inner.body;
    if (!length) return;
    if (body->tag != NETWASM_NET_HTTP_BODY_BYTES) {
        drop_body(body);
        body->tag = NETWASM_NET_HTTP_BODY_BYTES;
        copy_to(&body->val.bytes, data, length);
        return;
    }
    bindings_list_u8_t *bytes = &body->val.bytes;
    bytes->ptr = realloc(bytes->ptr, bytes->len + length);
    if (!bytes->ptr) abort();
    memcpy(bytes->ptr + bytes->len, data, length);
    bytes->len += length;
}

void nw_respond_printf(nw_response *response, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    size_t length;
    char *text = nw__format(format, arguments, &length);
    va_end(arguments);
    nw_respond_bytes(response, text, length);
    free(text);
}

void nw_respond_text(nw_response *response, uint16_t status, const char *text) {
    nw_status(response, status);
    nw_add_header(response, "Content-Type", "text/plain; charset=utf-8");
    nw_respond_bytes(response, text, strlen(text));
}

void nw_respond_html(nw_response *response, uint16_t status, const char *html) {
    nw_status(response, status);
    nw_add_header(response, "Content-Type", "text/html; charset=utf-8");
    nw_respond_bytes(response, html, strlen(html));
}

void nw_respond_file(nw_response *response, const char *path) {
    netwasm_net_http_body_t *body = &response->inner.body;
    bindings_list_u8_t copy;
    copy_to(&copy, path, strlen(path));
    drop_body(body);
    body->tag = NETWASM_NET_HTTP_BODY_PATH;
    body->val.path = (bindings_string_t){copy.ptr, copy.len};
}

nw_response *nw_response_new(void) {
    nw_response *response = nw__alloc(sizeof *response);
    response->inner.status = 200;
    return response;
}

static void drop_response(netwasm_net_http_response_t *response) {
    for (size_t i = 0; i < response->headers.len; i++) {
        free(response->headers.ptr[i].f0.ptr);
        free(response->headers.ptr[i].f1.ptr);
    }
    free(response->headers.ptr);
    drop_body(&response->body);
}

nw_deferred *nw_defer(const nw_request *request, void *user) {
    struct nw_request_parts *parts = request->parts;
    if (!parts->deferred) parts->deferred = nw__alloc(sizeof *parts->deferred);
    parts->deferred->user = user;
    parts->deferred->waits = true;
    parts->deferred->parts = parts;
    return parts->deferred;
}

nw_code nw_respond(nw_deferred *deferred, nw_response *response) {
    netwasm_net_types_error_t error;
    nw_code code = NW_INVALID_STATE;
    if (deferred->parts) {
        deferred->parts->now = response;
        deferred->parts->deferred = NULL;
        free(deferred);
        return NW_OK;
    }
    if (deferred->waits) {
        uint64_t token = (uintptr_t)deferred;
        bool sent = netwasm_net_http_respond(token, &response->inner, &error);
        code = sent ? NW_OK : nw__failed(&error);
    }
    drop_response(&response->inner);
    free(response);
    free(deferred);
    return code;
}

void exports_netwasm_net_response_handler_writable(uint64_t token) {
    /* No body is streamed. */
    (void)token;
}

void exports_netwasm_net_response_handler_abandoned(uint64_t token) {
    nw_deferred *deferred = (nw_deferred *)(uintptr_t)token;
    /* nw_respond frees it. */
    deferred->waits = false;
    if (nw_http_server.on_abandoned) nw_http_server.on_abandoned(deferred->user);
}

void exports_netwasm_net_http_handler_handle(netwasm_net_http_method_t *method,
                                             bindings_string_t *target,
                                             netwasm_net_http_borrow_request_t handle,
                                             netwasm_net_http_answer_t *answer) {
    _Static_assert(NETWASM_NET_HTTP_METHOD_OTHER == 8, "the methods have changed");
    static const char *const methods[] = {"GET",     "HEAD",    "POST",  "PUT",
                                          "DELETE",  "OPTIONS", "TRACE", "PATCH"};
    struct nw_request_parts parts = {.handle = handle};
    nw_request request = {.parts = &parts};
    request.method = method->tag < NETWASM_NET_HTTP_METHOD_OTHER
                         ? methods[method->tag]
                         : ended(&parts, method->val.other.ptr, method->val.other.len);
    char *path = ended(&parts, target->ptr, target->len);
    char *query = strchr(path, '?');
    if (query) *query++ = 0;
    request.path = path;
    request.query = query ? query : "";
    nw_response response = {.inner = {.status = 200}};
    if (nw_http_server.on_request)
        nw_http_server.on_request(&request, &response);
    else
        nw_respond_text(&response, 500, "the program defines no nw_http_server\n");
    for (size_t i = 0; i < parts.count; i++) free(parts.kept[i]);
    free(parts.kept);
    netwasm_net_http_request_drop_borrow(handle);
    if (parts.now) {
        drop_response(&response.inner);
        response = *parts.now;
        free(parts.now);
    }
    if (parts.deferred) {
        parts.deferred->parts = NULL;
        drop_response(&response.inner);
        answer->tag = NETWASM_NET_HTTP_ANSWER_DEFER;
        answer->val.defer = (uintptr_t)parts.deferred;
        return;
    }
    /* Its memory is freed once the host has read it. */
    answer->tag = NETWASM_NET_HTTP_ANSWER_RESPOND;
    answer->val.respond = response.inner;
}

#endif
