// Answers in capitals.

#include <ctype.h>
#include <stdlib.h>

#include "netwasm.h"

static void on_data(nw_conn *conn, const uint8_t *data, size_t length) {
    uint8_t *loud = malloc(length);
    if (!loud) {
        nw_abort(conn);
        return;
    }
    for (size_t i = 0; i < length; i++) loud[i] = (uint8_t)toupper(data[i]);
    // No room is left: the client does not read, so read no more of what it sends.
    if (nw_write(conn, loud, length) == 0) nw_pause_reading(conn);
    free(loud);
}

static void on_writable(nw_conn *conn) { nw_resume_reading(conn); }

const nw_tcp nw_tcp_server = {.on_data = on_data, .on_writable = on_writable};
