/* SPDX-License-Identifier: Apache-2.0
 *
 * The address of a metadata store on etcd:
 *
 *   etcd://HOST:PORT[,HOST:PORT...][/PREFIX][?OPTION=VALUE[&...]]
 *
 * Options: ca (a file; asks for TLS), cert and key (files: this side's certificate), user, password-file.
 */
#ifndef BACKEND_ETCD_ADDRESS_H
#define BACKEND_ETCD_ADDRESS_H

#include "base/base.h"

#define ETCD_ENDPOINTS_MAX  8
#define ETCD_HOST_SIZE      280
#define ETCD_PREFIX_MAX     128
#define ETCD_OPTION_SIZE    1024
#define ETCD_PREFIX_DEFAULT "fastblock"

struct etcd_address {
    char endpoints[ETCD_ENDPOINTS_MAX][ETCD_HOST_SIZE];
    uint32_t endpoint_count;
    char prefix[ETCD_PREFIX_MAX + 1];
    char ca[ETCD_OPTION_SIZE], cert[ETCD_OPTION_SIZE], key[ETCD_OPTION_SIZE]; /* empty: not given */
    char user[ETCD_OPTION_SIZE], password_file[ETCD_OPTION_SIZE], password[ETCD_OPTION_SIZE];
};

/* Reads the address, and the password from its file. ERR_INVALID and whatever opening that file gives; then
 * `ret_message` says what is wrong. */
MUST_CHECK int etcd_address_parse(const char *text, struct etcd_address *ret_address, char *ret_message,
                                  size_t message_size);

#endif
