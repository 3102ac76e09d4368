/* SPDX-License-Identifier: Apache-2.0
 *
 * The file with the faults of a device: a rule per line, of words.
 *
 *      REQUESTS FAULT [FROM LENGTH]        # FROM and LENGTH in bytes of the device, or with k, M, G
 *
 *      read|write|flush|discard|any
 *               delay MS|error|read-only|stuck|flip
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/fault.h"
#include "base/error.h"
#include "base/text.h"

#define LINE_SIZE    256
#define WORDS_MAX    6
#define DELAY_MS_MAX 3600000
#define TYPES_ALL    (1u << BLK_READ | 1u << BLK_WRITE | 1u << BLK_FLUSH | 1u << BLK_DISCARD)

static bool word_is_types(const char *word, uint32_t *ret_types)
{
    static const struct {
        const char *word;
        uint32_t types;
    } known[] = {{"read", 1u << BLK_READ},
                 {"write", 1u << BLK_WRITE},
                 {"flush", 1u << BLK_FLUSH},
                 {"discard", 1u << BLK_DISCARD},
                 {"any", TYPES_ALL}};

    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (strcmp(word, known[i].word) != 0)
            continue;
        *ret_types = known[i].types;
        return true;
    }
    return false;
}

static bool word_is_effect(const char *word, enum fault_effect *ret_effect)
{
    static const char *const known[] = {[FAULT_DELAY] = "delay",
                                        [FAULT_ERROR] = "error",
                                        [FAULT_READ_ONLY] = "read-only",
                                        [FAULT_STUCK] = "stuck",
                                        [FAULT_FLIP] = "flip"};

    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (strcmp(word, known[i]) != 0)
            continue;
        *ret_effect = (enum fault_effect)i;
        return true;
    }
    return false;
}

/* NULL, or what is wrong. */
static const char *rule_parse(char *const *word, uint32_t count, struct fault_rule *ret)
{
    struct fault_rule rule = {.len = UINT64_MAX};
    uint32_t next = 2;

    if (count < 2)
        return "a rule is REQUESTS FAULT [FROM LENGTH]";
    if (!word_is_types(word[0], &rule.types))
        return "requests are read, write, flush, discard or any";
    if (!word_is_effect(word[1], &rule.effect))
        return "faults are delay, error, read-only, stuck or flip";
    if (rule.effect == FAULT_DELAY) {
        uint64_t ms;
        if (count < 3 || text_parse_u64(word[next++], &ms) || ms > DELAY_MS_MAX)
            return "delay needs a number of milliseconds";
        rule.delay_ns = ms * NS_PER_MS;
    }
    if (rule.effect == FAULT_FLIP && rule.types != 1u << BLK_READ)
        return "only reads flip bits";
    if (count == next) {
        *ret = rule;
        return NULL;
    }
    if (count != next + 2 || text_parse_size(word[next], &rule.from) ||
        text_parse_size(word[next + 1], &rule.len) || rule.len > UINT64_MAX - rule.from)
        return "FROM and LENGTH are sizes in bytes";
    if (rule.types & 1u << BLK_FLUSH)
        return "a flush is of the whole device";
    *ret = rule;
    return NULL;
}

static const char *line_parse(char *line, struct fault_rules *rules)
{
    char *word[WORDS_MAX], *rest = NULL;
    uint32_t count = 0;

    line[strcspn(line, "#\n")] = 0;
    for (char *w = strtok_r(line, " \t", &rest); w; w = strtok_r(NULL, " \t", &rest)) {
        if (count == WORDS_MAX)
            return "too many words";
        word[count++] = w;
    }
    if (!count)
        return NULL;
    if (rules->count == FAULT_RULES_MAX)
        return "too many rules";
    const char *wrong = rule_parse(word, count, &rules->rule[rules->count]);
    rules->count += !wrong;
    return wrong;
}

static int file_parse(FILE *file, struct fault_rules *rules, char *ret_message)
{
    char line[LINE_SIZE];

    for (unsigned number = 1; fgets(line, sizeof(line), file); number++) {
        const char *wrong =
            strchr(line, '\n') || feof(file) ? line_parse(line, rules) : "the line is too long";
        if (!wrong)
            continue;
        snprintf(ret_message, FAULTS_MESSAGE_SIZE, "line %u: %s", number, wrong);
        return -ERR_INVALID;
    }
    if (!ferror(file))
        return 0;
    snprintf(ret_message, FAULTS_MESSAGE_SIZE, "%s", error_text(-ERR_IO));
    return -ERR_IO;
}

int faults_load(struct faults *faults, char ret_message[FAULTS_MESSAGE_SIZE], uint32_t *ret_count)
{
    struct fault_rules *rules = calloc(1, sizeof(*rules));
    FILE *file = rules ? fopen(faults->path, "re") : NULL;

    if (!file) {
        int error = rules ? error_from_errno(errno) : -ERR_NO_MEMORY;
        snprintf(ret_message, FAULTS_MESSAGE_SIZE, "%s", error_text(error));
        free(rules);
        return error;
    }
    int error = file_parse(file, rules, ret_message);
    fclose(file);
    if (error) {
        free(rules);
        return error;
    }
    *ret_count = rules->count;
    rules->older = atomic_load_explicit(&faults->rules, memory_order_relaxed);
    atomic_store_explicit(&faults->rules, rules, memory_order_release);
    return 0;
}

int faults_new(const char *path, struct faults **ret_faults)
{
    struct faults *faults = calloc(1, sizeof(*faults));

    if (!faults)
        return -ERR_NO_MEMORY;
    faults->path = path;
    *ret_faults = faults;
    return 0;
}

void faults_free(struct faults *faults)
{
    if (!faults)
        return;
    for (struct fault_rules *rules = atomic_load(&faults->rules), *older; rules; rules = older) {
        older = rules->older;
        free(rules);
    }
    free(faults);
}
