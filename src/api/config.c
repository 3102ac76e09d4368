/* SPDX-License-Identifier: Apache-2.0
 *
 * Where the monitors are: what the caller says, $FASTBLOCK_MON, or a line `mon = HOST:PORT[,...]` of
 * ~/.config/fastblock.conf or /etc/fastblock.conf. The command line looks in the same places.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "base/text.h"

/* The value of `mon = ...` in a line without its comment, or NULL. */
static char *config_value(char *line)
{
    line[strcspn(line, "#\r\n")] = '\0';
    char *at = line + strspn(line, " \t");
    if (strncmp(at, "mon", 3) != 0)
        return NULL;
    at += 3;
    at += strspn(at, " \t");
    if (*at++ != '=')
        return NULL;
    at += strspn(at, " \t");
    size_t len = strlen(at);
    while (len && (at[len - 1] == ' ' || at[len - 1] == '\t'))
        at[--len] = '\0';
    return len ? at : NULL;
}

static bool config_read(const char *path, char *ret_text, size_t ret_size)
{
    FILE *file = fopen(path, "re");
    char line[API_MONITORS_TEXT];
    bool found = false;

    if (!file)
        return false;
    while (!found && fgets(line, sizeof(line), file)) {
        char *value = config_value(line);
        found = value && text_copy(ret_text, ret_size, value) == 0;
    }
    fclose(file);
    return found;
}

int api_monitors(const char *option, char *ret_text, size_t ret_size)
{
    const char *text = option && *option ? option : getenv("FASTBLOCK_MON");
    const char *home = getenv("HOME");
    char path[512];

    if (text && *text)
        return text_copy(ret_text, ret_size, text);
    snprintf(path, sizeof(path), "%s/.config/fastblock.conf", home ? home : "");
    if (config_read(path, ret_text, ret_size) || config_read("/etc/fastblock.conf", ret_text, ret_size))
        return 0;
    return -ERR_NOT_FOUND;
}
