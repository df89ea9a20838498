/* The library of netwasm.h for time, over the generated bindings. */
#include "netwasm.h"

#include <stdlib.h>

#include "bindings.h"
#include "internal.h"

struct nw_timer {
    nw_timer *next;
    uint64_t at;
    void (*call)(void *user);
    void *user;
};

/* In the order of their times. */
static nw_timer *timers;

/* Only a program that sets timers has the code for them: it is not static, so
 * that no compiler sees that there is only one value. */
void (*nw__timers_due)(void);

uint64_t nw_now(void) { return netwasm_net_timers_now(); }

static void call_timers(void) {
    while (timers && timers->at <= nw_now()) {
        nw_timer *due = timers;
        timers = due->next;
        due->call(due->user);
        free(due);
    }
    if (timers) netwasm_net_timers_wake_at(&timers->at);
}

nw_timer *nw_after(uint64_t nanoseconds, void (*call)(void *), void *user) {
    nw_timer *timer = nw__alloc(sizeof *timer);
    timer->at = nw_now() + nanoseconds;
    timer->call = call;
    timer->user = user;
    nw__timers_due = call_timers;
    nw_timer **place = &timers;
    while (*place && (*place)->at <= timer->at) place = &(*place)->next;
    timer->next = *place;
    *place = timer;
    if (timers == timer) netwasm_net_timers_wake_at(&timer->at);
    return timer;
}

void nw_cancel(nw_timer *timer) {
    nw_timer **place = &timers;
    while (*place && *place != timer) place = &(*place)->next;
    if (!*place) return;
    /* The host may wake for nothing: that costs less than telling it. */
    *place = timer->next;
    free(timer);
}

void exports_netwasm_net_timer_handler_woken(void) {
    if (nw__timers_due) nw__timers_due();
}
