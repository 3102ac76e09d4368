/* SPDX-License-Identifier: Apache-2.0
 *
 * The address of a metadata store on etcd.
 */
#include "backend/etcd_address.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"

#define SCHEME "etcd://"

/* A name or a number, an IPv6 address in brackets, then the port. */
static bool endpoint_is_good(const char *text)
{
    const char *colon = strrchr(text, ':');
    uint64_t port;

    if (!colon || colon == text || text_parse_u64(colon + 1, &port) || port == 0 || port > 65535)
        return false;
    bool brackets = text[0] == '[' && colon[-1] == ']';
    if (brackets ? colon - text <= 2 : text[0] == '-')
        return false;
    for (const char *c = text + brackets; c < colon - brackets; c++)
        if (brackets ? !isxdigit((unsigned char)*c) && !strchr(":.", *c)
                     : !isalnum((unsigned char)*c) && !strchr("-._", *c))
            return false;
    return true;
}

static bool prefix_is_good(const char *text)
{
    for (const char *c = text; *c; c++)
        if (!isgraph((unsigned char)*c))
            return false;
    return *text && text[strlen(text) - 1] != '/';
}

/* Copies up to the first of `ends`, returning where that was; NULL when it is too long. */
static const char *take(const char *text, const char *ends, char *to, size_t to_size)
{
    size_t len = strcspn(text, ends);

    if (len >= to_size)
        return NULL;
    memcpy(to, text, len);
    to[len] = 0;
    return text + len;
}

static int read_password(struct etcd_address *a, char *message, size_t message_size)
{
    FILE *file = fopen(a->password_file, "re");

    if (!file) {
        snprintf(message, message_size, "cannot read the password file %s: %s", a->password_file,
                 strerror(errno));
        return error_from_errno(errno);
    }
    bool got = fgets(a->password, sizeof(a->password), file);
    fclose(file);
    a->password[strcspn(a->password, "\r\n")] = 0;
    if (!got || !*a->password) {
        snprintf(message, message_size, "the password file %s is empty", a->password_file);
        return -ERR_INVALID;
    }
    return 0;
}

static bool take_option(struct etcd_address *a, const char **text)
{
    const struct {
        const char *name;
        char *to;
    } options[] = {{"ca", a->ca},
                   {"cert", a->cert},
                   {"key", a->key},
                   {"user", a->user},
                   {"password-file", a->password_file}};

    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        size_t len = strlen(options[i].name);
        if (strncmp(*text, options[i].name, len) || (*text)[len] != '=')
            continue;
        *text = take(*text + len + 1, "&", options[i].to, ETCD_OPTION_SIZE);
        return *text && *options[i].to;
    }
    return false;
}

int etcd_address_parse(const char *text, struct etcd_address *ret_address, char *ret_message,
                       size_t message_size)
{
    struct etcd_address a = {.prefix = ETCD_PREFIX_DEFAULT};
    const char *wrong = NULL;
    int result = 0;

    if (strncmp(text, SCHEME, strlen(SCHEME))) {
        wrong = "it must begin with " SCHEME;
        goto out;
    }
    text += strlen(SCHEME) - 1;
    do {
        if (a.endpoint_count == ETCD_ENDPOINTS_MAX) {
            wrong = "too many members";
            goto out;
        }
        char *endpoint = a.endpoints[a.endpoint_count++];
        text = take(text + 1, ",/?", endpoint, ETCD_HOST_SIZE);
        if (!text || !endpoint_is_good(endpoint)) {
            wrong = "a member is HOST:PORT";
            goto out;
        }
    } while (*text == ',');
    if (*text == '/') {
        text = take(text + 1, "?", a.prefix, sizeof(a.prefix));
        if (!text || !prefix_is_good(a.prefix)) {
            wrong = "the prefix is too long, empty, ends in '/', or has characters that cannot be printed";
            goto out;
        }
    }
    while (*text) {
        text++;
        if (!take_option(&a, &text)) {
            wrong = "options are ca, cert, key, user and password-file, each with a value";
            goto out;
        }
    }
    if (!*a.cert != !*a.key || (*a.cert && !*a.ca))
        wrong = "cert and key need each other, and ca";
    else if (!*a.user != !*a.password_file)
        wrong = "user and password-file need each other";
    else if (*a.password_file)
        result = read_password(&a, ret_message, message_size);
out:
    if (wrong) {
        snprintf(ret_message, message_size, "wrong etcd address: %s", wrong);
        result = -ERR_INVALID;
    }
    if (!result)
        *ret_address = a;
    return result;
}
