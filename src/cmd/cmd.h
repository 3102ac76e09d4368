/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd: the programs. One file per program or subcommand; the only room with main() and printing. May include
 * everything.
 *
 * A subcommand of `fastblock` is one row of a table: name, arguments, options, what it does, function. Help,
 * man page and shell completion are made from the table, so that they cannot disagree with the program.
 *
 * Exit codes of all programs: 0 done; 1 the operation failed (stderr says why and what to do); 2 wrong usage.
 */
#ifndef CMD_CMD_H
#define CMD_CMD_H

#include <jansson.h>

#include "base/base.h"
#include "client/client.h"
#include "rt/core.h"

#define CMD_OPTIONS_MAX   16
#define CMD_ARGUMENTS_MAX 4

enum { CMD_OK = 0, CMD_FAILED = 1, CMD_USAGE = 2 };

struct cmd_option {
    const char *name;     /* "size" */
    const char *argument; /* "SIZE"; NULL: a flag */
    const char *help;
};

struct cmd_args;

struct cmd_command {
    const char *name;      /* "image create" */
    const char *arguments; /* "POOL/IMAGE", "[NAME]": each word is one; in brackets it may be missing */
    const char *summary;   /* one line */
    const char *text;      /* more, for --help and the man page; may be NULL */
    struct cmd_option options[CMD_OPTIONS_MAX];
    int (*run)(struct cmd_args *args);
};

struct cmd_args {
    const struct cmd_command *command;
    const char *program;                       /* argv[0] */
    const char *positional[CMD_ARGUMENTS_MAX]; /* NULL: not given */
    const char *values[CMD_OPTIONS_MAX];       /* by the option's place in the table; flags: "" */
    bool json;
    const char *mon; /* --mon, or NULL */
};

/* The value of an option, or NULL when it was not given; the command must have it in its table. */
const char *cmd_option(const struct cmd_args *args, const char *name);
/* Numbers and sizes with bounds; a bad value prints an error that names the option and answers false. */
MUST_CHECK bool cmd_option_number(const struct cmd_args *args, const char *name, uint64_t standard,
                                  uint64_t min, uint64_t max, uint64_t *ret);
MUST_CHECK bool cmd_option_size(const struct cmd_args *args, const char *name, uint64_t standard,
                                uint64_t *ret);

/* "fastblock: MESSAGE" on stderr; returns CMD_FAILED. */
int cmd_fail(const char *format, ...) PRINTF_LIKE(1, 2);
/* The same for wrong usage; returns CMD_USAGE. */
int cmd_usage(const char *format, ...) PRINTF_LIKE(1, 2);

/* Of an error of reading or writing an image, with what to do. */
const char *cmd_io_text(int error);

/* Prints and frees a JSON value on stdout. */
void cmd_print_json(json_t *value);
/* What commands on an image ("pool/image") tell of it. */
json_t *cmd_image_json(const char *name, uint64_t size_bytes);

/* Splits "POOL/IMAGE" into two buffers of CMD_NAME_MAX; prints an error that shows the form and answers
 * false. */
#define CMD_NAME_MAX 65
MUST_CHECK bool cmd_split_image(const char *text, char pool[CMD_NAME_MAX], char image[CMD_NAME_MAX]);

/* Reads "osd.N"; prints an error that shows the form and answers false. */
MUST_CHECK bool cmd_parse_osd(const char *text, uint32_t *ret_osd);

/* The same of a PG, as cmd_pg_name() writes it. */
MUST_CHECK bool cmd_parse_pg(const char *text, uint64_t *ret_pg);
const char *cmd_pg_name(uint64_t pg); /* as cmd_text() */

/* A table on stdout: columns as wide as their cells, `right` marks numbers ('r') and text ('l'). Cells are
 * copied. */
struct cmd_table;
struct cmd_table *cmd_table_new(const char *align, ...) __attribute__((sentinel)); /* headings, NULL */
void cmd_table_row(struct cmd_table *table, ...); /* as many strings as headings */
/* Shows the table, or with --json the list in its place; frees both. */
void cmd_table_print(struct cmd_table *table, const struct cmd_args *args, json_t *list);
/* A string that lives until the next eight calls: for cells. */
const char *cmd_text(const char *format, ...) PRINTF_LIKE(1, 2);
const char *cmd_size_text(uint64_t bytes);
const char *cmd_time_text(uint64_t us); /* wall clock; "never" for 0 */

/* ---- a connection to the cluster (cmd_session.c)
 * --------------------------------------------------------------------- */

struct uring_core;

struct cmd_session {
    uint32_t extents_objects; /* that cmd_image_extents() asks about next; 0: the first few */
    struct uring_core *uring;
    struct core *core;
    struct net *net;
    struct client *client;
};

/* Connects to a monitor: of --mon, $FASTBLOCK_MON, or `mon = ...` in ~/.config/fastblock.conf or
 * /etc/fastblock.conf; prints an error and answers false when it cannot. `memory_bytes`: for data under way.
 */
MUST_CHECK bool cmd_session_open(struct cmd_session *s, const struct cmd_args *args, uint64_t memory_bytes,
                                 uint32_t spin_us);
void cmd_session_close(struct cmd_session *s);
/* Runs the core until the op is done; returns its result. */
int cmd_wait(struct cmd_session *s, struct op *op);

/* Goes on with the connection's own work for this long. */
void cmd_sleep(struct cmd_session *s, uint32_t ms);

/* One call to the monitor. On an error prints `what` with the monitor's explanation and returns NULL. The
 * reply lives until cmd_call_end(). */
struct cmd_call {
    struct client_mon_call call;
};
Fb__MonReply *cmd_mon_call(struct cmd_session *s, struct cmd_call *call, Fb__MonRequest *request,
                           const char *what);
void cmd_call_end(struct cmd_call *call);

/* A remark of the monitor goes to stderr. */
void cmd_note(const Fb__MonReply *reply);

/* A command that is one call: makes it and says what was done, `said` or with --json `json`, which it takes
 * over; a remark of the monitor goes to stderr. The exit code. */
int cmd_order(struct cmd_args *args, Fb__MonRequest *request, const char *what, json_t *json,
              const char *said);
/* The status of the cluster, as cmd_mon_call(). */
Fb__MonReply *cmd_status_get(struct cmd_session *s, struct cmd_call *call);

/* All pages of a list. NULL: it failed, and was said. Free it with cmd_pages_free(). */
struct cmd_pages {
    struct cmd_call call;
    Fb__MonReply *reply;
    struct cmd_pages *next;
};
/* `advance` sets the request's cursor behind the page. */
struct cmd_pages *cmd_mon_pages(struct cmd_session *s, Fb__MonRequest *request, const char *what,
                                void (*advance)(Fb__MonRequest *request, const Fb__MonReply *page));
void cmd_pages_free(struct cmd_pages *pages);

/* METHOD_PERF of a shard, of an image (its id) or 0 for all. ERR_PROTOCOL if the answer is malformed. The
 * reply is freed by fb__perf_reply__free_unpacked(). */
MUST_CHECK int cmd_perf_get(struct cmd_session *s, uint32_t osd, uint32_t shard, uint64_t image,
                            Fb__PerfReply **ret_reply);

/* Opens and closes "pool/image"; prints the error. */
MUST_CHECK struct client_image *cmd_image_open(struct cmd_session *s, const char *name, bool write,
                                               bool force);
int cmd_image_close(struct cmd_session *s, struct client_image *image);
/* What is written of the image from `offset` on, as far as that fits into CMD_EXTENTS_MAX extents and is
 * answered at once; at least one. Prints the error, also that the image has shrunk and has no such place any
 * more. */
#define CMD_EXTENTS_MAX 512
MUST_CHECK bool cmd_image_extents(struct cmd_session *s, struct client_image *image, uint64_t offset,
                                  struct client_extent *ret_extents, uint32_t *ret_count);

/* True once SIGINT or SIGTERM arrived: long work stops in order. */
bool cmd_interrupted(void);

/* ---- progress: a line on stderr that is written over, if that is a terminal ---- */

struct cmd_progress {
    const char *verb;
    uint64_t total, started_ns, shown_ns;
    bool on;
};
void cmd_progress_start(struct cmd_progress *p, struct core *core, const char *verb, uint64_t total_bytes);
void cmd_progress_show(struct cmd_progress *p, struct core *core, uint64_t done_bytes);
/* Takes the line away, as errors do: what was done is for the command to say. */
void cmd_progress_end(void);

/* ---- subcommands
 * ---------------------------------------------------------------------------------------------------- */

int cmd_cluster_up(struct cmd_args *args);
int cmd_cluster_down(struct cmd_args *args);
int cmd_cluster_status(struct cmd_args *args);
int cmd_cluster_env(struct cmd_args *args);
int cmd_cluster_start(struct cmd_args *args);
int cmd_cluster_stop(struct cmd_args *args);
int cmd_status(struct cmd_args *args);
int cmd_perf(struct cmd_args *args);
int cmd_perf_image(struct cmd_args *args);
int cmd_osd_ls(struct cmd_args *args);
int cmd_osd_tree(struct cmd_args *args);
int cmd_osd_df(struct cmd_args *args);
int cmd_osd_out(struct cmd_args *args);
int cmd_osd_in(struct cmd_args *args);
int cmd_osd_drain(struct cmd_args *args);
int cmd_osd_reweight(struct cmd_args *args);
int cmd_osd_remove(struct cmd_args *args);
int cmd_osd_lost(struct cmd_args *args);
int cmd_host_maintenance(struct cmd_args *args);
int cmd_cluster_set(struct cmd_args *args);
int cmd_cluster_unset(struct cmd_args *args);
int cmd_health(struct cmd_args *args);
int cmd_health_detail(struct cmd_args *args);
int cmd_rebalance_plan(struct cmd_args *args);
int cmd_rebalance_status(struct cmd_args *args);
int cmd_rebalance_limit(struct cmd_args *args);
int cmd_pool_set(struct cmd_args *args);
int cmd_events(struct cmd_args *args);
int cmd_osd_demote(struct cmd_args *args);
int cmd_pg_ls(struct cmd_args *args);
int cmd_pg_leader(struct cmd_args *args);
int cmd_pg_show(struct cmd_args *args);
int cmd_pg_scrub(struct cmd_args *args);
int cmd_pg_repair(struct cmd_args *args);
/* How many acknowledged writes a PG has lost that went on with one replica, in words. */
const char *cmd_lost_text(uint64_t writes);
int cmd_pg_force_recover(struct cmd_args *args);
int cmd_pg_acknowledge(struct cmd_args *args);
int cmd_scrub_pause(struct cmd_args *args);
int cmd_scrub_resume(struct cmd_args *args);
int cmd_mon_ls(struct cmd_args *args);
int cmd_mon_rm(struct cmd_args *args);
int cmd_mon_backup(struct cmd_args *args);
int cmd_mon_collect(struct cmd_args *args);
int cmd_mon_rebuild(struct cmd_args *args);
int cmd_mon_restore(struct cmd_args *args);
int cmd_mon_migrate(struct cmd_args *args);
int cmd_mon_status(struct cmd_args *args);
int cmd_pool_create(struct cmd_args *args);
int cmd_pool_ls(struct cmd_args *args);
int cmd_pool_rm(struct cmd_args *args);
int cmd_image_create(struct cmd_args *args);
int cmd_image_ls(struct cmd_args *args);
int cmd_image_info(struct cmd_args *args);
int cmd_image_du(struct cmd_args *args);
int cmd_image_resize(struct cmd_args *args);
int cmd_image_rm(struct cmd_args *args);
int cmd_image_import(struct cmd_args *args);
int cmd_image_export(struct cmd_args *args);
int cmd_bench(struct cmd_args *args);
int cmd_store_show(struct cmd_args *args);
int cmd_store_check(struct cmd_args *args);

#endif
