/* The library of netwasm.h for shared state and for counts, over the generated
 * bindings. */
#include <stdlib.h>
#include <string.h>

#include "bindings.h"
#include "internal.h"
#include "netwasm.h"

static bindings_list_u8_t bytes_of(const void *data, size_t length) {
    return (bindings_list_u8_t){(uint8_t *)data, length};
}

static bindings_list_u8_t key_of(const char *key) { return bytes_of(key, strlen(key)); }

/* ---- Shared state ---- */

nw_code nw_take(const char *key, double rate, uint32_t burst, uint32_t count,
                nw_bucket *bucket) {
    bindings_list_u8_t name = key_of(key);
    netwasm_net_shared_bucket_t made;
    netwasm_net_types_error_t error;
    if (!netwasm_net_shared_take(&name, rate, burst, count, &made, &error))
        return nw__failed(&error);
    *bucket = (nw_bucket){made.taken, made.left, made.wait};
    return NW_OK;
}

bool nw_get(const char *key, nw_value *value) {
    bindings_list_u8_t name = key_of(key);
    netwasm_net_shared_value_t found;
    memset(value, 0, sizeof *value);
    if (!netwasm_net_shared_get(&name, &found)) return false;
    value->data = nw__alloc(found.data.len + 1);
    if (found.data.len) memcpy(value->data, found.data.ptr, found.data.len);
    value->length = found.data.len;
    value->version = found.version;
    netwasm_net_shared_value_free(&found);
    return true;
}

void nw_value_free(nw_value *value) {
    free(value->data);
    value->data = NULL;
}

nw_code nw_set(const char *key, const void *data, size_t length, uint64_t ttl) {
    bindings_list_u8_t name = key_of(key), bytes = bytes_of(data, length);
    netwasm_net_types_error_t error;
    uint64_t version;
    bool set = netwasm_net_shared_set(&name, &bytes, ttl ? &ttl : NULL, &version, &error);
    return set ? NW_OK : nw__failed(&error);
}

nw_code nw_compare_and_swap(const char *key, const uint64_t *version, const void *data,
                            size_t length, uint64_t ttl, bool *is_set) {
    bindings_list_u8_t name = key_of(key), bytes = bytes_of(data, length);
    netwasm_net_types_error_t error;
    bindings_option_u64_t now;
    if (!netwasm_net_shared_compare_and_swap(&name, (uint64_t *)version, &bytes,
                                             ttl ? &ttl : NULL, &now, &error))
        return nw__failed(&error);
    *is_set = now.is_some;
    return NW_OK;
}

nw_code nw_add(const char *key, int64_t more, uint64_t ttl, int64_t *sum) {
    bindings_list_u8_t name = key_of(key);
    netwasm_net_types_error_t error;
    int64_t result;
    if (!netwasm_net_shared_add(&name, more, ttl ? &ttl : NULL, &result, &error))
        return nw__failed(&error);
    if (sum) *sum = result;
    return NW_OK;
}

bool nw_touch(const char *key, uint64_t ttl) {
    bindings_list_u8_t name = key_of(key);
    return netwasm_net_shared_touch(&name, ttl ? &ttl : NULL);
}

bool nw_remove(const char *key) {
    bindings_list_u8_t name = key_of(key);
    return netwasm_net_shared_remove(&name, NULL);
}

/* ---- Counts ---- */

/* Lends labels to the host, in memory that the caller frees. */
static netwasm_net_metrics_list_label_t labels_of(const nw_label *labels, size_t count) {
    netwasm_net_metrics_list_label_t list = {NULL, count};
    if (!count) return list;
    list.ptr = nw__alloc(count * sizeof *list.ptr);
    for (size_t i = 0; i < count; i++) {
        list.ptr[i].name = nw__string(labels[i].name);
        list.ptr[i].value = nw__string(labels[i].value);
    }
    return list;
}

static nw_code opened(nw_metric *metric, bool is_open, uint32_t number,
                      netwasm_net_types_error_t *error) {
    *metric = (nw_metric){is_open, is_open ? number : 0};
    return is_open ? NW_OK : nw__failed(error);
}

nw_code nw_open_counter(nw_metric *metric, const char *name, const char *help,
                        const nw_label *labels, size_t label_count) {
    bindings_string_t called = nw__string(name), text = nw__string(help);
    netwasm_net_metrics_list_label_t list = labels_of(labels, label_count);
    netwasm_net_metrics_counter_id_t id = {0};
    netwasm_net_types_error_t error;
    bool is_open = netwasm_net_metrics_counter(&called, &text, &list, &id, &error);
    free(list.ptr);
    return opened(metric, is_open, id.number, &error);
}

nw_code nw_open_gauge(nw_metric *metric, const char *name, const char *help,
                      const nw_label *labels, size_t label_count) {
    bindings_string_t called = nw__string(name), text = nw__string(help);
    netwasm_net_metrics_list_label_t list = labels_of(labels, label_count);
    netwasm_net_metrics_gauge_id_t id = {0};
    netwasm_net_types_error_t error;
    bool is_open = netwasm_net_metrics_gauge(&called, &text, &list, &id, &error);
    free(list.ptr);
    return opened(metric, is_open, id.number, &error);
}

nw_code nw_open_histogram(nw_metric *metric, const char *name, const char *help,
                          const double *bounds, size_t bound_count, const nw_label *labels,
                          size_t label_count) {
    bindings_string_t called = nw__string(name), text = nw__string(help);
    bindings_list_f64_t limits = {(double *)bounds, bound_count};
    netwasm_net_metrics_list_label_t list = labels_of(labels, label_count);
    netwasm_net_metrics_histogram_id_t id = {0};
    netwasm_net_types_error_t error;
    bool is_open = netwasm_net_metrics_histogram(&called, &text, &limits, &list, &id, &error);
    free(list.ptr);
    return opened(metric, is_open, id.number, &error);
}

void nw_count(nw_metric counter, uint64_t more) {
    netwasm_net_metrics_counter_id_t id = {counter.number};
    if (counter.is_open) netwasm_net_metrics_add(&id, more);
}

void nw_set_gauge(nw_metric gauge, double value) {
    netwasm_net_metrics_gauge_id_t id = {gauge.number};
    if (gauge.is_open) netwasm_net_metrics_set(&id, value);
}

void nw_change_gauge(nw_metric gauge, double by) {
    netwasm_net_metrics_gauge_id_t id = {gauge.number};
    if (gauge.is_open) netwasm_net_metrics_change(&id, by);
}

void nw_observe(nw_metric histogram, double value) {
    netwasm_net_metrics_histogram_id_t id = {histogram.number};
    if (histogram.is_open) netwasm_net_metrics_observe(&id, value);
}
