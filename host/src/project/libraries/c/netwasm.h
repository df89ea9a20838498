/* Handlers for netwasm in C: network servers and clients as WebAssembly
 * components, called for each event.
 *
 *     #include "netwasm.h"
 *
 *     static void on_data(nw_conn *conn, const uint8_t *data, size_t length) {
 *         nw_write(conn, data, length);
 *     }
 *
 *     const nw_tcp nw_tcp_server = { .on_data = on_data };
 *
 * A handler handles one event and returns; no call waits, and sleep() and the
 * sockets of libc are refused. Nothing runs between two events. What stdio does
 * with files works below the directories of --dir; what is printed goes to the
 * host's log.
 *
 * Memory: what a callback gets by pointer is there until it returns, except for
 * nw_conn and nw_socket, which are there until on_lost returns. What a function
 * gets it copies, or is done with when it returns.
 *
 * bindings.h has every function of the interface in its raw form, as
 * wit-bindgen makes it; nw_conn_id and nw_socket_id lead there. */
#ifndef NETWASM_H
#define NETWASM_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Kinds of failures; wit/types.wit says more. NW_OK is 0. */
typedef enum {
    NW_OK,
    NW_ACCESS_DENIED,
    NW_INVALID_STATE,
    NW_INVALID_ARGUMENT,
    NW_NOT_SUPPORTED,
    NW_LIMIT_EXCEEDED,
    NW_TIMEOUT,
    NW_CONNECTION_REFUSED,
    NW_CONNECTION_RESET,
    NW_CONNECTION_ABORTED,
    NW_CONNECTION_BROKEN,
    NW_REMOTE_UNREACHABLE,
    NW_ADDRESS_NOT_BINDABLE,
    NW_NAME_UNRESOLVABLE,
    NW_NO_ADDRESS,
    NW_RESOLVER_FAILURE,
    NW_NOT_FOUND,
    NW_TLS,
    NW_TLS_TRUNCATED,
    NW_OTHER,
} nw_code;

/* The reason of a failure: a kind, and a sentence for a person. */
typedef struct {
    nw_code code;
    const char *text;
} nw_error;

/* Returns the text of the last function here that failed. */
const char *nw_last_error(void);

/* An IP address with a port. */
typedef struct {
    bool is_ipv6;
    uint16_t port;
    uint8_t ip[16]; /* the first four for IPv4 */
    uint32_t flow_info, scope_id;
} nw_addr;

/* Writes an address as text, such as 127.0.0.1:80 or [::1]:80, and returns the
 * buffer; 64 bytes are enough. */
char *nw_addr_text(const nw_addr *address, char *buffer, size_t size);

/* ---- Connections (--tcp, --tls, and nw_connect) ---- */

typedef struct nw_conn nw_conn;

/* A function for each event of a connection; each may be NULL. They come in the
 * order on_connection, on_data, on_eof, on_lost, with the others in between. */
typedef struct {
    /* A connection is open. */
    void (*on_connection)(nw_conn *conn);
    /* Bytes arrived, at least one. */
    void (*on_data)(nw_conn *conn, const uint8_t *data, size_t length);
    /* The peer sends no more. Return true to go on sending; false, or no
     * function, closes the connection once all is sent. */
    bool (*on_eof)(nw_conn *conn);
    /* There is room again after nw_write returned 0, or after nw_want_write. */
    void (*on_writable)(nw_conn *conn);
    /* The handshake of nw_start_tls_server or nw_start_tls_client is done. */
    void (*on_tls)(nw_conn *conn);
    /* The last event. reason is NULL if the connection ended in an orderly way. */
    void (*on_lost)(nw_conn *conn, const nw_error *reason);
} nw_tcp;

/* The handler of connections that are accepted: the program defines it. */
extern const nw_tcp nw_tcp_server;

/* The handler's own pointer, NULL at first. */
void *nw_user(const nw_conn *conn);
void nw_set_user(nw_conn *conn, void *user);

/* The number of the connection, for functions of bindings.h. */
uint64_t nw_conn_id(const nw_conn *conn);

/* Sends bytes after all that was written before, and takes all of them. Returns
 * the room that is left: at 0, write no more until on_writable. Who goes on
 * regardless is cut off at --max-write-buffer. */
uint64_t nw_write(nw_conn *conn, const void *data, size_t length);
/* Sends formatted text, as printf does. */
uint64_t nw_printf(nw_conn *conn, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Asks for on_writable, as soon as there is room and others had their turn. */
void nw_want_write(nw_conn *conn);
/* Ends the sending side once all is sent (half-close). */
nw_code nw_write_eof(nw_conn *conn);
/* Sends what is queued, then ends the connection. */
void nw_close(nw_conn *conn);
/* Ends the connection at once, by a reset. */
void nw_abort(nw_conn *conn);
bool nw_is_closing(const nw_conn *conn);
/* Receives nothing until nw_resume_reading, so that the peer has to wait. */
void nw_pause_reading(nw_conn *conn);
void nw_resume_reading(nw_conn *conn);
/* Ends the connection if nothing moves for so long; 0 is the command line's. */
void nw_set_idle_timeout(nw_conn *conn, uint64_t nanoseconds);
/* Copies all that arrives to another connection, or back, in the host. */
nw_code nw_relay(nw_conn *conn, nw_conn *to);
/* Sends a whole file below one of the directories of --dir, by sendfile(2). */
nw_code nw_send_file(nw_conn *conn, const char *path);
/* Continues in TLS. received are bytes that came with the last on_data and
 * already belong to TLS, mostly none. */
nw_code nw_start_tls_server(nw_conn *conn, const void *received, size_t length);
nw_code nw_start_tls_client(nw_conn *conn, const char *server_name);
/* The two ends. Returns false for Unix domain sockets. */
bool nw_peer(const nw_conn *conn, nw_addr *address);
bool nw_local(const nw_conn *conn, nw_addr *address);

/* Options for connecting; all may be 0. */
typedef struct {
    /* Opens a TLS session first. */
    bool tls;
    /* The name that the certificate must carry; NULL for the host's. */
    const char *server_name;
    /* For resolving, connecting and the handshake; 0 is 30 s. */
    uint64_t timeout;
} nw_connect_options;

/* Connects to a name or an address; a host that begins with "unix:" is the path
 * of a Unix domain socket, and "@NAME" a server of the group that --upstream
 * names, whose port and TLS are those of the group. on_connection follows, or
 * on_lost with the reason. Returns NULL if it fails at once. options may be
 * NULL. */
nw_conn *nw_connect(const char *host, uint16_t port, const nw_connect_options *options,
                    const nw_tcp *events, void *user);

/* ---- Datagrams (--udp) ---- */

typedef struct nw_socket nw_socket;

/* A function for each event of a socket; each may be NULL. */
typedef struct {
    void (*on_open)(nw_socket *socket);
    void (*on_datagram)(nw_socket *socket, const uint8_t *data, size_t length,
                        const nw_addr *peer);
    /* An earlier datagram could not be delivered. peer may be NULL. */
    void (*on_error)(nw_socket *socket, const nw_error *reason, const nw_addr *peer);
    void (*on_lost)(nw_socket *socket, const nw_error *reason);
} nw_udp;

/* The handler of datagrams: the program defines it. */
extern const nw_udp nw_udp_server;

void *nw_socket_user(const nw_socket *socket);
void nw_socket_set_user(nw_socket *socket, void *user);
uint64_t nw_socket_id(const nw_socket *socket);
nw_code nw_send_to(nw_socket *socket, const void *data, size_t length, const nw_addr *peer);
void nw_socket_close(nw_socket *socket);

/* ---- HTTP (--http, --https) ---- */

typedef struct nw_response nw_response;

/* A request. Texts and bodies that functions return for it are there until
 * on_request returns. */
typedef struct {
    const char *method;
    const char *path;  /* as the client sent it, percent signs and all */
    const char *query; /* what follows the question mark; empty if nothing does */
    struct nw_request_parts *parts;
} nw_request;

typedef struct {
    /* Answers: fills the response, which is 200 without a body at first. */
    void (*on_request)(const nw_request *request, nw_response *response);
    /* The client of a deferred request has left: nw_respond fails. */
    void (*on_abandoned)(void *user);
} nw_http;

/* The handler of requests: the program defines it. */
extern const nw_http nw_http_server;

/* Decodes a part of the path, such as Ada%20Lovelace; NULL if a percent sign has no
 * two digits, or stands for a NUL. */
const char *nw_decoded(const nw_request *request, const char *text);
/* The first value of a parameter of the query, decoded; NULL as for nw_decoded, and
 * if there is none. */
const char *nw_query(const nw_request *request, const char *name);
/* The first value of a header; NULL if it was not sent. */
const char *nw_header(const nw_request *request, const char *name);
/* The whole body. */
const uint8_t *nw_body(const nw_request *request, size_t *length);

void nw_status(nw_response *response, uint16_t status);
void nw_add_header(nw_response *response, const char *name, const char *value);
/* Appends to the body. */
void nw_respond_bytes(nw_response *response, const void *data, size_t length);
void nw_respond_printf(nw_response *response, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Sets the status and the type, and appends to the body. */
void nw_respond_text(nw_response *response, uint16_t status, const char *text);
void nw_respond_html(nw_response *response, uint16_t status, const char *html);
/* Makes a file the body, by its path below one of the directories of --dir. */
void nw_respond_file(nw_response *response, const char *path);

typedef struct nw_deferred nw_deferred;
/* Postpones the response of this request: what on_request fills in is dropped.
 * nw_respond gives it later, by a response of nw_response_new, and frees both;
 * it fails if the client has left. user is for on_abandoned. */
nw_deferred *nw_defer(const nw_request *request, void *user);
nw_response *nw_response_new(void);
nw_code nw_respond(nw_deferred *deferred, nw_response *response);

/* ---- Shared state: of all instances of the service, on all threads ---- */

/* It survives a reload, and ends with the host's process; --max-shared bounds
 * it. Keys are of 256 bytes at most. A ttl in nanoseconds lets a value expire; 0
 * is never. */

/* A bucket of tokens after nw_take. */
typedef struct {
    bool taken;    /* the tokens were there, and are taken */
    uint32_t left; /* whole tokens that are left */
    uint64_t wait; /* nanoseconds until as many are there as were asked for */
} nw_bucket;

/* Takes tokens from the bucket of a key, or none if there are too few. It is
 * full at first, holds burst tokens, and gains rate a second. */
nw_code nw_take(const char *key, double rate, uint32_t burst, uint32_t count,
                nw_bucket *bucket);

/* A value. A zero follows the data. */
typedef struct {
    uint8_t *data;
    size_t length;
    uint64_t version; /* each change makes it another one */
} nw_value;

/* Returns false if there is no value. nw_value_free frees one. */
bool nw_get(const char *key, nw_value *value);
void nw_value_free(nw_value *value);
/* Sets a value, of 64 KiB at most. */
nw_code nw_set(const char *key, const void *data, size_t length, uint64_t ttl);
/* Sets a value if the one that is there has that version; with NULL, if there is
 * none. Says in is_set if it did: another instance may have been faster. */
nw_code nw_compare_and_swap(const char *key, const uint64_t *version, const void *data,
                            size_t length, uint64_t ttl, bool *is_set);
/* Adds to a counter. A new one begins at 0 and expires after ttl; that of one
 * that is there stays. sum may be NULL. */
nw_code nw_add(const char *key, int64_t more, uint64_t ttl, int64_t *sum);
/* Lets a value expire after ttl from now. Returns false if there is none. */
bool nw_touch(const char *key, uint64_t ttl);
/* Removes a value. Returns false if there is none. */
bool nw_remove(const char *key);

/* ---- Counts of the handler's own, in /metrics of --admin ---- */

/* All instances of the service count together. "lines" is shown as
 * netwasm_guest_lines_total. Labels are for what has few values. Opening a
 * metric looks it up or makes it; what is zero counts nothing. */

typedef struct {
    const char *name, *value;
} nw_label;

typedef struct {
    bool is_open;
    uint32_t number;
} nw_metric;

/* A counter only grows, a gauge goes up and down, and a histogram has numbers of
 * observed values by size, of 1 to 32 bounds. labels may be NULL. */
nw_code nw_open_counter(nw_metric *metric, const char *name, const char *help,
                        const nw_label *labels, size_t label_count);
nw_code nw_open_gauge(nw_metric *metric, const char *name, const char *help,
                      const nw_label *labels, size_t label_count);
nw_code nw_open_histogram(nw_metric *metric, const char *name, const char *help,
                          const double *bounds, size_t bound_count, const nw_label *labels,
                          size_t label_count);
void nw_count(nw_metric counter, uint64_t more);
void nw_set_gauge(nw_metric gauge, double value);
void nw_change_gauge(nw_metric gauge, double by);
void nw_observe(nw_metric histogram, double value);

/* ---- Time, names, the host ---- */

/* A monotonic clock in nanoseconds, whose start means nothing. */
uint64_t nw_now(void);

typedef struct nw_timer nw_timer;
/* Calls a function once after some nanoseconds, then frees the timer. */
nw_timer *nw_after(uint64_t nanoseconds, void (*call)(void *user), void *user);
/* Cancels a timer that was not called yet, and frees it. */
void nw_cancel(nw_timer *timer);

/* Looks up a name. The addresses come in the order in which they should be
 * tried, with port 0; there are none if there is an error. */
typedef void nw_resolved(void *user, const nw_addr *addresses, size_t count,
                         const nw_error *error);
nw_code nw_resolve(const char *name, nw_resolved *done, void *user);

/* Called when the host begins to shut down, if it is set: what is left open is
 * ended after that time. UINT64_MAX is no limit. */
extern void (*nw_on_shutdown)(uint64_t nanoseconds);

typedef enum { NW_TRACE, NW_DEBUG, NW_INFO, NW_WARN, NW_ERROR } nw_level;
/* Writes an entry to the host's log. */
void nw_log(nw_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#ifdef __cplusplus
}
#endif
#endif
