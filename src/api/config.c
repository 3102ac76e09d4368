/* SPDX-License-Identifier: Apache-2.0
 *
 * The configuration file, /etc/fastblock.conf: where the monitors are, for every program, and options of the
 * daemons.
 *
 *     mon = 10.0.0.1:7000,10.0.0.2:7000     # before the first section: for everybody
 *     [osd]                                 # options of `fastblock-osd run`, without the two dashes
 *     cache = 4G
 *
 * What the caller says comes first, then the environment ($FASTBLOCK_MON), then ~/.config/fastblock.conf,
 * then /etc/fastblock.conf. $FASTBLOCK_CONF names another file in the place of both.
 */
#include "api/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"

#define STANDARD_PATH "/etc/fastblock.conf"

/* Cuts blanks off both ends. */
static char *trim(char *text)
{
    text += strspn(text, " \t");
    size_t len = strlen(text);
    while (len && (text[len - 1] == ' ' || text[len - 1] == '\t'))
        text[--len] = '\0';
    return text;
}

int config_each(const char *path, const char *section,
                int (*take)(void *owner, const char *name, const char *value, uint32_t line), void *owner)
{
    FILE *file = fopen(path, "re");
    char line[CONFIG_LINE_MAX], current[CONFIG_LINE_MAX] = "";
    int error = 0;

    if (!file)
        return -ERR_NOT_FOUND;
    for (uint32_t number = 1; !error && fgets(line, sizeof(line), file); number++) {
        bool whole = strchr(line, '\n') || feof(file);
        line[strcspn(line, "#\r\n")] = '\0';
        char *at = trim(line), *equals = strchr(at, '=');
        size_t len = strlen(at);

        if (!whole) {
            error = take(owner, NULL, at, number);
        } else if (*at == '[' && at[len - 1] == ']') {
            at[len - 1] = '\0';
            strcpy(current, trim(at + 1));
        } else if (*at && !strcmp(current, section)) {
            if (equals)
                *equals = '\0';
            error = take(owner, equals ? trim(at) : NULL, equals ? trim(equals + 1) : at, number);
        }
    }
    if (!error && ferror(file)) /* a directory can be opened, but not read */
        error = -ERR_NOT_FOUND;
    fclose(file);
    return error;
}

const char *config_path(void)
{
    const char *path = getenv("FASTBLOCK_CONF");

    return path && *path ? path : STANDARD_PATH;
}

const char *config_unreadable(void)
{
    const char *path = getenv("FASTBLOCK_CONF");
    FILE *file = path && *path ? fopen(path, "re") : NULL;
    bool good = file && (fgetc(file) != EOF || !ferror(file));
    int why = errno;

    if (file)
        fclose(file);
    errno = why;
    return path && *path && !good ? path : NULL;
}

/* ---- the monitors ---- */

struct monitors {
    char *text;
    size_t size;
    bool found;
    int error;
};

static int take_monitors(void *owner, const char *name, const char *value, uint32_t line)
{
    struct monitors *m = owner;

    /* Other lines are none of a client's business, also wrong ones. */
    if (!name || strcmp(name, "mon") != 0 || !*value || m->found)
        return 0;
    m->found = true;
    m->error = text_copy(m->text, m->size, value);
    return 0;
}

static bool read_monitors(const char *path, char *ret_text, size_t ret_size, int *ret_error)
{
    struct monitors m = {.text = ret_text, .size = ret_size};

    (void)!config_each(path, "", take_monitors, &m);
    *ret_error = m.error;
    return m.found;
}

int api_monitors(const char *option, char *ret_text, size_t ret_size)
{
    const char *text = option && *option ? option : getenv("FASTBLOCK_MON");
    const char *home = getenv("HOME"), *named = getenv("FASTBLOCK_CONF");
    char path[512];
    int error;

    if (text && *text)
        return text_copy(ret_text, ret_size, text);
    snprintf(path, sizeof(path), "%s/.config/fastblock.conf", home ? home : "");
    if (!(named && *named) && home && read_monitors(path, ret_text, ret_size, &error))
        return error;
    if (read_monitors(config_path(), ret_text, ret_size, &error))
        return error;
    return -ERR_NOT_FOUND;
}
