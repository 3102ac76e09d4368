/* SPDX-License-Identifier: Apache-2.0
 *
 * What subcommands print with: errors, JSON, tables, progress.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/text.h"
#include "cmd/cmd.h"

static bool progress_shown; /* on stderr stands a line without an end */

static void clear_progress(void)
{
    if (progress_shown)
        fprintf(stderr, "\r\033[K");
    progress_shown = false;
}

static void print_error(const char *format, va_list list)
{
    fflush(stdout);
    clear_progress();
    fprintf(stderr, "fastblock: ");
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
}

int cmd_fail(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    print_error(format, list);
    va_end(list);
    return CMD_FAILED;
}

int cmd_usage(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    print_error(format, list);
    va_end(list);
    return CMD_USAGE;
}

const char *cmd_io_text(int error)
{
    if (error == -ERR_TIMEOUT)
        return "timed out: `fastblock health detail` tells what is wrong";
    if (error == -ERR_DAMAGED)
        return "no replica has it intact: `fastblock health detail` tells more";
    return error_text(error);
}

void cmd_print_json(json_t *value)
{
    json_dumpf(value, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    fputc('\n', stdout);
    json_decref(value);
}

json_t *cmd_image_json(const char *name, uint64_t size_bytes)
{
    return json_pack("{s:s, s:I}", "image", name, "size_bytes", (json_int_t)size_bytes);
}

bool cmd_split_image(const char *text, char pool[CMD_NAME_MAX], char image[CMD_NAME_MAX])
{
    const char *slash = strchr(text, '/');
    size_t pool_len = slash ? (size_t)(slash - text) : 0;
    if (!slash || pool_len == 0 || pool_len >= CMD_NAME_MAX || !slash[1] ||
        strlen(slash + 1) >= CMD_NAME_MAX || strchr(slash + 1, '/')) {
        cmd_usage("'%s' does not name an image: write POOL/IMAGE, for example rbd/disk1", text);
        return false;
    }
    memcpy(pool, text, pool_len);
    pool[pool_len] = 0;
    strcpy(image, slash + 1);
    return true;
}

bool cmd_parse_osd(const char *text, uint32_t *ret_osd)
{
    char *end;
    const char *digits = strncmp(text, "osd.", 4) == 0 ? text + 4 : text;
    unsigned long osd = strtoul(digits, &end, 10);
    if (end == digits || *end || *digits == '-' || osd > UINT32_MAX) {
        cmd_usage("'%s' does not name an OSD: write osd.N", text);
        return false;
    }
    *ret_osd = (uint32_t)osd;
    return true;
}

const char *cmd_text(const char *format, ...)
{
    static __thread char ring[8][256];
    static __thread unsigned next;
    char *text = ring[next++ % ARRAY_LEN(ring)];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof(ring[0]), format, list);
    va_end(list);
    return text;
}

const char *cmd_size_text(uint64_t bytes)
{
    char text[TEXT_SIZE_MAX];
    return cmd_text("%s", text_format_size(bytes, text));
}

#define TABLE_COLUMNS_MAX 12

struct cmd_table {
    const char *align;
    size_t columns, rows, cap;
    char **cells;
};

static void table_add(struct cmd_table *t, va_list list)
{
    if (t->rows == t->cap) {
        t->cap = t->cap ? 2 * t->cap : 32;
        t->cells = realloc(t->cells, t->cap * t->columns * sizeof(char *));
        ASSERT(t->cells);
    }
    for (size_t c = 0; c < t->columns; c++) {
        t->cells[t->rows * t->columns + c] = strdup(va_arg(list, const char *));
        ASSERT(t->cells[t->rows * t->columns + c]);
    }
    t->rows++;
}

struct cmd_table *cmd_table_new(const char *align, ...)
{
    struct cmd_table *t = calloc(1, sizeof(*t));
    ASSERT(t);
    t->align = align;
    t->columns = strlen(align);
    va_list list;
    va_start(list, align);
    table_add(t, list);
    va_end(list);
    return t;
}

void cmd_table_row(struct cmd_table *t, ...)
{
    va_list list;
    va_start(list, t);
    table_add(t, list);
    va_end(list);
}

static void table_show(const struct cmd_table *t)
{
    int widths[TABLE_COLUMNS_MAX] = {0};
    ASSERT(t->columns <= TABLE_COLUMNS_MAX);
    for (size_t r = 0; r < t->rows; r++)
        for (size_t c = 0; c < t->columns; c++)
            widths[c] = MAX(widths[c], (int)strlen(t->cells[r * t->columns + c]));
    for (size_t r = 0; r < t->rows; r++) {
        for (size_t c = 0; c < t->columns; c++) {
            const char *cell = t->cells[r * t->columns + c];
            bool last = c + 1 == t->columns;
            if (t->align[c] == 'r')
                printf("%*s%s", widths[c], cell, last ? "" : "  ");
            else
                printf("%-*s%s", last ? 0 : widths[c], cell, last ? "" : "  ");
        }
        putchar('\n');
    }
}

void cmd_table_print(struct cmd_table *t, const struct cmd_args *args, json_t *list)
{
    if (args->json) {
        cmd_print_json(list);
    } else {
        json_decref(list);
        table_show(t);
    }
    for (size_t i = 0; i < t->rows * t->columns; i++)
        free(t->cells[i]);
    free(t->cells);
    free(t);
}

void cmd_progress_start(struct cmd_progress *p, struct core *core, const char *verb, uint64_t total_bytes)
{
    *p = (struct cmd_progress){.verb = verb, .total = total_bytes, .on = isatty(STDERR_FILENO)};
    p->started_ns = core_now_ns(core);
}

void cmd_progress_show(struct cmd_progress *p, struct core *core, uint64_t done_bytes)
{
    uint64_t now = core_now_ns(core);
    if (!p->on || now - p->shown_ns < 200 * NS_PER_MS)
        return;
    p->shown_ns = now;
    progress_shown = true;
    double seconds = (double)(now - p->started_ns) / NS_PER_S;
    double rate = seconds > 0 ? (double)done_bytes / seconds : 0;
    fprintf(stderr, "\r%s %s of %s  %3d%%  %s/s", p->verb, cmd_size_text(done_bytes), cmd_size_text(p->total),
            p->total ? (int)(100.0 * (double)done_bytes / (double)p->total) : 100,
            cmd_size_text((uint64_t)rate));
    if (rate > 0 && done_bytes < p->total)
        fprintf(stderr, "  %.0f s left", (double)(p->total - done_bytes) / rate);
    fprintf(stderr, "\033[K");
}

void cmd_progress_end(void)
{
    clear_progress();
}

const char *cmd_time_text(uint64_t us)
{
    time_t s = (time_t)(us / 1000000);
    struct tm tm;
    char text[40];

    if (!us || !localtime_r(&s, &tm) || !strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm))
        return "never";
    return cmd_text("%s", text);
}

const char *cmd_pg_name(uint64_t pg)
{
    return cmd_text("%llu.%llx", (unsigned long long)(pg >> 32), (unsigned long long)(pg & 0xffffffff));
}

bool cmd_parse_pg(const char *text, uint64_t *ret_pg)
{
    char *end;
    unsigned long pool = strtoul(text, &end, 10);
    if (end == text || *end != '.' || pool == 0 || pool > UINT32_MAX)
        goto bad;
    const char *number_text = end + 1;
    unsigned long number = strtoul(number_text, &end, 16);
    if (end == number_text || *end || number > UINT32_MAX)
        goto bad;
    *ret_pg = (uint64_t)pool << 32 | number;
    return true;
bad:
    cmd_usage("'%s' does not name a PG: write it as `fastblock pg ls` does, for example 1.2a", text);
    return false;
}
