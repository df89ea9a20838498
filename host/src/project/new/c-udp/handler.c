// Sends each datagram back in capitals.

#include <ctype.h>
#include <stdlib.h>

#include "netwasm.h"

static void on_datagram(nw_socket *socket, const uint8_t *data, size_t length,
                        const nw_addr *peer) {
    uint8_t *loud = malloc(length ? length : 1);
    if (!loud) return;
    for (size_t i = 0; i < length; i++) loud[i] = (uint8_t)toupper(data[i]);
    if (nw_send_to(socket, loud, length, peer) != NW_OK) nw_log(NW_WARN, "%s", nw_last_error());
    free(loud);
}

const nw_udp nw_udp_server = {.on_datagram = on_datagram};
