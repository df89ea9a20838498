// Answers HTTP requests: a page, one with a parameter, and one with a body.

#include <string.h>

#include "netwasm.h"

static bool is(const nw_request *request, const char *method, const char *path) {
    // HEAD is answered as GET is; the host sends no body.
    const char *asked = strcmp(request->method, "HEAD") == 0 ? "GET" : request->method;
    return strcmp(asked, method) == 0 && strcmp(request->path, path) == 0;
}

static void on_request(const nw_request *request, nw_response *response) {
    const char *hello = "/hello/";
    if (is(request, "GET", "/")) {
        nw_respond_html(response, 200, "<h1>Home</h1>");
    } else if (is(request, "POST", "/echo")) {
        size_t length;
        const uint8_t *body = nw_body(request, &length);
        nw_respond_bytes(response, body, length);
    } else if (strncmp(request->path, hello, strlen(hello)) == 0) {
        const char *name = nw_decoded(request, request->path + strlen(hello));
        nw_respond_text(response, name ? 200 : 400, "");
        nw_respond_printf(response, "Hello, %s!\n", name ? name : "whoever you are");
    } else {
        nw_respond_text(response, 404, "Not found\n");
    }
}

const nw_http nw_http_server = {.on_request = on_request};
