/* The library of netwasm.h for connections, datagrams and names, over the generated
 * bindings. */
#include "netwasm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bindings.h"
#include "internal.h"

_Static_assert(NW_OTHER == NETWASM_NET_TYPES_ERROR_CODE_OTHER + 1, "the kinds have changed");
_Static_assert(NW_ERROR == (int)NETWASM_NET_LOG_LEVEL_ERROR, "the levels have changed");

static char last_error[256];

const char *nw_last_error(void) { return last_error; }

nw_code nw__failed(netwasm_net_types_error_t *error) {
    nw_code code = (nw_code)(error->code + 1);
    snprintf(last_error, sizeof last_error, "%.*s", (int)error->text.len,
             (const char *)error->text.ptr);
    netwasm_net_types_error_free(error);
    return code;
}

bindings_string_t nw__string(const char *text) {
    return (bindings_string_t){(uint8_t *)text, text ? strlen(text) : 0};
}

void *nw__alloc(size_t size) {
    void *memory = calloc(1, size);
    if (!memory) abort(); /* it ends the instance, as any trap does */
    return memory;
}

static const nw_error *reason_of(netwasm_net_types_error_t *reason, nw_error *error) {
    if (!reason) return NULL;
    error->code = nw__failed(reason);
    error->text = last_error;
    return error;
}

/* ---- Addresses ---- */

static void from_ip(const netwasm_net_types_ip_socket_address_t *from, nw_addr *to) {
    memset(to, 0, sizeof *to);
    if (from->tag == NETWASM_NET_TYPES_IP_SOCKET_ADDRESS_IPV4) {
        to->port = from->val.ipv4.port;
        memcpy(to->ip, &from->val.ipv4.address, 4);
        return;
    }
    const uint16_t *parts = &from->val.ipv6.address.f0;
    to->is_ipv6 = true;
    to->port = from->val.ipv6.port;
    to->flow_info = from->val.ipv6.flow_info;
    to->scope_id = from->val.ipv6.scope_id;
    for (int i = 0; i < 8; i++) {
        to->ip[2 * i] = (uint8_t)(parts[i] >> 8);
        to->ip[2 * i + 1] = (uint8_t)parts[i];
    }
}

char *nw_addr_text(const nw_addr *address, char *buffer, size_t size) {
    const uint8_t *ip = address->ip;
    if (!address->is_ipv6) {
        snprintf(buffer, size, "%u.%u.%u.%u:%u", ip[0], ip[1], ip[2], ip[3], address->port);
        return buffer;
    }
    /* RFC 5952: the first longest run of zeros is left out. */
    unsigned parts[8];
    int best = -1, longest = 1;
    for (int i = 0; i < 8; i++) parts[i] = (unsigned)(ip[2 * i] << 8 | ip[2 * i + 1]);
    for (int i = 0, run; i < 8; i += run ? run : 1) {
        for (run = 0; i + run < 8 && !parts[i + run]; run++) {}
        if (run > longest) best = i, longest = run;
    }
    char text[48], *end = text;
    for (int i = 0; i < 8; i++) {
        if (i == best) {
            end += sprintf(end, "::");
            i += longest - 1;
            continue;
        }
        const char *colon = i && i != best + (best < 0 ? -1 : longest) ? ":" : "";
        end += sprintf(end, "%s%x", colon, parts[i]);
    }
    *end = 0;
    if (address->scope_id)
        snprintf(buffer, size, "[%s%%%u]:%u", text, (unsigned)address->scope_id, address->port);
    else
        snprintf(buffer, size, "[%s]:%u", text, address->port);
    return buffer;
}

/* ---- Connections ---- */

struct nw_conn {
    netwasm_net_types_connection_id_t id;
    const nw_tcp *events;
    void *user;
};

/* A program that accepts no connections defines none. */
__attribute__((weak)) const nw_tcp nw_tcp_server = {0};

/* The token of a connection is its address. */
static nw_conn *conn_of(uint64_t token) { return (nw_conn *)(uintptr_t)token; }
static uint64_t token_of(const void *object) { return (uintptr_t)object; }

#define ID(conn) ((netwasm_net_types_connection_id_t *)&(conn)->id)

void *nw_user(const nw_conn *conn) { return conn->user; }
void nw_set_user(nw_conn *conn, void *user) { conn->user = user; }
uint64_t nw_conn_id(const nw_conn *conn) { return conn->id.number; }

uint64_t nw_write(nw_conn *conn, const void *data, size_t length) {
    bindings_list_u8_t list = {(uint8_t *)data, length};
    return netwasm_net_transports_write(ID(conn), &list);
}

uint64_t nw_printf(nw_conn *conn, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    size_t length;
    char *text = nw__format(format, arguments, &length);
    va_end(arguments);
    uint64_t room = nw_write(conn, text, length);
    free(text);
    return room;
}

char *nw__format(const char *format, va_list arguments, size_t *length) {
    va_list again;
    va_copy(again, arguments);
    int size = vsnprintf(NULL, 0, format, again);
    va_end(again);
    char *text = nw__alloc((size_t)(size < 0 ? 0 : size) + 1);
    *length = size < 0 ? 0 : (size_t)vsnprintf(text, (size_t)size + 1, format, arguments);
    return text;
}

void nw_want_write(nw_conn *conn) { netwasm_net_transports_want_write(ID(conn)); }

nw_code nw_write_eof(nw_conn *conn) {
    netwasm_net_types_error_t error;
    return netwasm_net_transports_write_eof(ID(conn), &error) ? NW_OK : nw__failed(&error);
}

void nw_close(nw_conn *conn) { netwasm_net_transports_close(ID(conn)); }
void nw_abort(nw_conn *conn) { netwasm_net_transports_abort(ID(conn)); }
bool nw_is_closing(const nw_conn *conn) { return netwasm_net_transports_is_closing(ID(conn)); }
void nw_pause_reading(nw_conn *conn) { netwasm_net_transports_pause_reading(ID(conn)); }
void nw_resume_reading(nw_conn *conn) { netwasm_net_transports_resume_reading(ID(conn)); }

void nw_set_idle_timeout(nw_conn *conn, uint64_t nanoseconds) {
    netwasm_net_transports_set_idle_timeout(ID(conn), nanoseconds ? &nanoseconds : NULL);
}

nw_code nw_relay(nw_conn *conn, nw_conn *to) {
    netwasm_net_types_error_t error;
    return netwasm_net_transports_relay(ID(conn), ID(to), &error) ? NW_OK : nw__failed(&error);
}

nw_code nw_send_file(nw_conn *conn, const char *path) {
    netwasm_net_types_error_t error;
    netwasm_net_files_own_file_t file;
    bindings_string_t name = nw__string(path);
    if (!netwasm_net_files_static_file_open(&name, &file, &error)) return nw__failed(&error);
    uint64_t sent;
    nw_code code = NW_OK;
    if (!netwasm_net_transports_send_file(ID(conn), netwasm_net_files_borrow_file(file), 0, NULL,
                                          &sent, &error))
        code = nw__failed(&error);
    netwasm_net_files_file_drop_own(file);
    return code;
}

static nw_code start_tls(nw_conn *conn, netwasm_net_transports_tls_role_t *role,
                         const void *received, size_t length) {
    netwasm_net_types_error_t error;
    bindings_list_u8_t bytes = {(uint8_t *)received, length};
    bool begun = netwasm_net_transports_start_tls(ID(conn), role, &bytes, &error);
    return begun ? NW_OK : nw__failed(&error);
}

nw_code nw_start_tls_server(nw_conn *conn, const void *received, size_t length) {
    netwasm_net_transports_tls_role_t role = {.tag = NETWASM_NET_TYPES_TLS_ROLE_SERVER};
    return start_tls(conn, &role, received, length);
}

nw_code nw_start_tls_client(nw_conn *conn, const char *server_name) {
    netwasm_net_transports_tls_role_t role = {.tag = NETWASM_NET_TYPES_TLS_ROLE_CLIENT};
    role.val.client.server_name.is_some = true;
    role.val.client.server_name.val = nw__string(server_name);
    return start_tls(conn, &role, NULL, 0);
}

static bool end_of(const nw_conn *conn, bool peer, nw_addr *address) {
    netwasm_net_types_connection_info_t info;
    netwasm_net_transports_info(ID(conn), &info);
    netwasm_net_types_socket_address_t *end = peer ? &info.peer : &info.local;
    bool is_ip = end->tag == NETWASM_NET_TYPES_SOCKET_ADDRESS_IP;
    if (is_ip) from_ip(&end->val.ip, address);
    netwasm_net_types_connection_info_free(&info);
    return is_ip;
}

bool nw_peer(const nw_conn *conn, nw_addr *address) { return end_of(conn, true, address); }
bool nw_local(const nw_conn *conn, nw_addr *address) { return end_of(conn, false, address); }

static bool connect_to(nw_conn *conn, const char *host, uint16_t port,
                       const nw_connect_options *options, netwasm_net_types_error_t *error) {
    netwasm_net_types_endpoint_t to = {.tag = NETWASM_NET_TYPES_ENDPOINT_NAME};
    if (strncmp(host, "unix:", 5) == 0) {
        to.tag = NETWASM_NET_TYPES_ENDPOINT_UNIX;
        to.val.unix = nw__string(host + 5);
    } else {
        to.val.name.f0 = nw__string(host);
        to.val.name.f1 = port;
    }
    netwasm_net_types_connect_options_t with;
    memset(&with, 0, sizeof with);
    if (options && options->tls) {
        with.tls.is_some = true;
        with.tls.val.server_name.is_some = options->server_name != NULL;
        with.tls.val.server_name.val = nw__string(options->server_name);
    }
    if (options && options->timeout) {
        with.timeout.is_some = true;
        with.timeout.val = options->timeout;
    }
    return netwasm_net_connector_connect(token_of(conn), &to, &with, error);
}

nw_conn *nw_connect(const char *host, uint16_t port, const nw_connect_options *options,
                    const nw_tcp *events, void *user) {
    nw_conn *conn = nw__alloc(sizeof *conn);
    conn->events = events;
    conn->user = user;
    netwasm_net_types_error_t error;
    bool begun;
    if (host[0] == '@') {
        bindings_string_t group = nw__string(host + 1);
        uint64_t timeout = options ? options->timeout : 0;
        begun = netwasm_net_connector_connect_upstream(token_of(conn), &group,
                                                       timeout ? &timeout : NULL, &error);
    } else {
        begun = connect_to(conn, host, port, options, &error);
    }
    if (!begun) {
        nw__failed(&error);
        free(conn);
        return NULL;
    }
    return conn;
}

void exports_netwasm_net_connect_handler_connected(
    uint64_t token, exports_netwasm_net_connect_handler_result_connection_id_error_t *outcome) {
    nw_conn *conn = conn_of(token);
    if (outcome->is_err) {
        nw_error error;
        const nw_error *reason = reason_of(&outcome->val.err, &error);
        if (conn->events->on_lost) conn->events->on_lost(conn, reason);
        free(conn);
        return;
    }
    conn->id = outcome->val.ok;
    if (conn->events->on_connection) conn->events->on_connection(conn);
}

uint64_t exports_netwasm_net_tcp_handler_connection_made(netwasm_net_types_connection_id_t *id) {
    nw_conn *conn = nw__alloc(sizeof *conn);
    conn->id = *id;
    conn->events = &nw_tcp_server;
    if (conn->events->on_connection) conn->events->on_connection(conn);
    return token_of(conn);
}

void exports_netwasm_net_tcp_handler_data_received(uint64_t token, bindings_list_u8_t *data) {
    nw_conn *conn = conn_of(token);
    if (conn->events->on_data) conn->events->on_data(conn, data->ptr, data->len);
    bindings_list_u8_free(data);
}

bool exports_netwasm_net_tcp_handler_eof_received(uint64_t token) {
    nw_conn *conn = conn_of(token);
    return conn->events->on_eof && conn->events->on_eof(conn);
}

void exports_netwasm_net_tcp_handler_writable(uint64_t token) {
    nw_conn *conn = conn_of(token);
    if (conn->events->on_writable) conn->events->on_writable(conn);
}

void exports_netwasm_net_tcp_handler_tls_started(uint64_t token,
                                                 netwasm_net_types_tls_info_t *info) {
    nw_conn *conn = conn_of(token);
    netwasm_net_types_tls_info_free(info);
    if (conn->events->on_tls) conn->events->on_tls(conn);
}

void exports_netwasm_net_tcp_handler_connection_lost(uint64_t token,
                                                     netwasm_net_types_error_t *maybe_reason) {
    nw_conn *conn = conn_of(token);
    nw_error error;
    const nw_error *reason = reason_of(maybe_reason, &error);
    if (conn->events->on_lost) conn->events->on_lost(conn, reason);
    free(conn);
}

/* ---- Datagrams ---- */

#ifdef NETWASM_UDP

struct nw_socket {
    netwasm_net_types_socket_id_t id;
    void *user;
};

__attribute__((weak)) const nw_udp nw_udp_server = {0};

void *nw_socket_user(const nw_socket *socket) { return socket->user; }
void nw_socket_set_user(nw_socket *socket, void *user) { socket->user = user; }
uint64_t nw_socket_id(const nw_socket *socket) { return socket->id.number; }
void nw_socket_close(nw_socket *socket) { netwasm_net_datagrams_close(&socket->id); }

static void to_ip(const nw_addr *from, netwasm_net_types_ip_socket_address_t *to) {
    memset(to, 0, sizeof *to);
    if (!from->is_ipv6) {
        to->tag = NETWASM_NET_TYPES_IP_SOCKET_ADDRESS_IPV4;
        to->val.ipv4.port = from->port;
        memcpy(&to->val.ipv4.address, from->ip, 4);
        return;
    }
    uint16_t *parts = &to->val.ipv6.address.f0;
    to->tag = NETWASM_NET_TYPES_IP_SOCKET_ADDRESS_IPV6;
    to->val.ipv6.port = from->port;
    to->val.ipv6.flow_info = from->flow_info;
    to->val.ipv6.scope_id = from->scope_id;
    for (int i = 0; i < 8; i++)
        parts[i] = (uint16_t)(from->ip[2 * i] << 8 | from->ip[2 * i + 1]);
}

nw_code nw_send_to(nw_socket *socket, const void *data, size_t length, const nw_addr *peer) {
    netwasm_net_types_error_t error;
    netwasm_net_types_ip_socket_address_t to;
    to_ip(peer, &to);
    bindings_list_u8_t list = {(uint8_t *)data, length};
    bool sent = netwasm_net_datagrams_send_to(&socket->id, &list, &to, &error);
    return sent ? NW_OK : nw__failed(&error);
}

static nw_socket *socket_of(uint64_t token) { return (nw_socket *)(uintptr_t)token; }

uint64_t exports_netwasm_net_udp_handler_connection_made(netwasm_net_types_socket_id_t *id) {
    nw_socket *socket = nw__alloc(sizeof *socket);
    socket->id = *id;
    if (nw_udp_server.on_open) nw_udp_server.on_open(socket);
    return token_of(socket);
}

void exports_netwasm_net_udp_handler_datagram_received(
    uint64_t token, bindings_list_u8_t *data, netwasm_net_types_ip_socket_address_t *peer) {
    nw_addr address;
    from_ip(peer, &address);
    if (nw_udp_server.on_datagram)
        nw_udp_server.on_datagram(socket_of(token), data->ptr, data->len, &address);
    bindings_list_u8_free(data);
}

void exports_netwasm_net_udp_handler_error_received(
    uint64_t token, netwasm_net_types_error_t *reason,
    netwasm_net_types_ip_socket_address_t *maybe_peer) {
    nw_error error;
    nw_addr address;
    reason_of(reason, &error);
    if (maybe_peer) from_ip(maybe_peer, &address);
    if (nw_udp_server.on_error)
        nw_udp_server.on_error(socket_of(token), &error, maybe_peer ? &address : NULL);
}

void exports_netwasm_net_udp_handler_connection_lost(uint64_t token,
                                                     netwasm_net_types_error_t *maybe_reason) {
    nw_socket *socket = socket_of(token);
    nw_error error;
    const nw_error *reason = reason_of(maybe_reason, &error);
    if (nw_udp_server.on_lost) nw_udp_server.on_lost(socket, reason);
    free(socket);
}

#endif

/* ---- Names, the host ---- */

struct lookup {
    nw_resolved *done;
    void *user;
};

nw_code nw_resolve(const char *name, nw_resolved *done, void *user) {
    struct lookup *lookup = nw__alloc(sizeof *lookup);
    lookup->done = done;
    lookup->user = user;
    netwasm_net_types_error_t error;
    bindings_string_t text = nw__string(name);
    if (netwasm_net_resolver_resolve(token_of(lookup), &text, &error)) return NW_OK;
    free(lookup);
    return nw__failed(&error);
}

void exports_netwasm_net_resolve_handler_resolved(
    uint64_t token, exports_netwasm_net_resolve_handler_result_list_ip_address_error_t *answer) {
    struct lookup *lookup = (struct lookup *)(uintptr_t)token;
    if (answer->is_err) {
        nw_error error;
        lookup->done(lookup->user, NULL, 0, reason_of(&answer->val.err, &error));
        free(lookup);
        return;
    }
    size_t count = answer->val.ok.len;
    nw_addr *addresses = nw__alloc(count * sizeof *addresses);
    for (size_t i = 0; i < count; i++) {
        netwasm_net_types_ip_address_t *ip = &answer->val.ok.ptr[i];
        netwasm_net_types_ip_socket_address_t whole;
        memset(&whole, 0, sizeof whole);
        whole.tag = ip->tag;
        if (ip->tag == NETWASM_NET_TYPES_IP_ADDRESS_IPV4)
            whole.val.ipv4.address = ip->val.ipv4;
        else
            whole.val.ipv6.address = ip->val.ipv6;
        from_ip(&whole, &addresses[i]);
    }
    free(answer->val.ok.ptr);
    lookup->done(lookup->user, addresses, count, NULL);
    free(addresses);
    free(lookup);
}

void (*nw_on_shutdown)(uint64_t nanoseconds);

void exports_netwasm_net_lifecycle_shutting_down(uint64_t *maybe_deadline) {
    if (nw_on_shutdown) nw_on_shutdown(maybe_deadline ? *maybe_deadline : UINT64_MAX);
}

void nw_log(nw_level level, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    bindings_string_t message;
    message.ptr = (uint8_t *)nw__format(format, arguments, &message.len);
    va_end(arguments);
    netwasm_net_log_log((netwasm_net_log_level_t)level, &message);
    free(message.ptr);
}
