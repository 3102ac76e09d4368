/* SPDX-License-Identifier: Apache-2.0
 *
 * Parsing of options is by hand because every subcommand's options come from its row of the table; forms are
 * the usual ones:
 * --name VALUE, --name=VALUE, -- ends options. `fastblock man` and `fastblock completion` serve the build and
 * are not listed.
 */
#include "cmd/cmd_help.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"

static const struct cmd_option global_options[] = {
    {"mon", "ADDR",
     "where the monitors are: ADDRESS:PORT[,...], numeric; else $FASTBLOCK_MON, else `mon = ...` in "
     "~/.config/fastblock.conf or /etc/fastblock.conf"},
    {"json", NULL, "print JSON"},
    {"help", NULL, "show help"},
};

/* From column `indent` on; `begun`: the line is there already. A line that is indented goes on two columns
 * further right. */
static void print_wrapped(FILE *out, const char *text, int indent, bool begun)
{
    int column = indent, margin = indent, spaces = 0;
    if (!begun)
        fprintf(out, "%*s", indent, "");
    while (*text) {
        if (*text == '\n') {
            fprintf(out, "\n%*s", indent, "");
            column = indent;
            text++;
            spaces = (int)strspn(text, " ");
            margin = indent + (spaces ? spaces + 2 : 0);
            text += spaces;
            continue;
        }
        int word = (int)strcspn(text, " \n");
        if (column > indent && column + spaces + word > 90) {
            fprintf(out, "\n%*s", margin, "");
            column = margin;
            spaces = 0;
        }
        fprintf(out, "%*s%.*s", spaces, "", word, text);
        column += spaces + word;
        text += word;
        spaces = (int)strspn(text, " ");
        text += spaces;
    }
    fputc('\n', out);
}

static void print_option(FILE *out, const struct cmd_option *o)
{
    char left[64];
    snprintf(left, sizeof(left), "--%s%s%s", o->name, o->argument ? " " : "", o->argument ? o->argument : "");
    if (strlen(left) > 24) {
        fprintf(out, "  %s\n", left);
        print_wrapped(out, o->help, 28, false);
    } else {
        fprintf(out, "  %-25s ", left);
        print_wrapped(out, o->help, 28, true);
    }
}

static void print_command_help(FILE *out, const char *program, const struct cmd_command *c)
{
    fprintf(out, "usage: %s %s%s%s [options]\n\n", program, c->name, *c->arguments ? " " : "", c->arguments);
    print_wrapped(out, c->summary, 0, false);
    if (c->text) {
        fputc('\n', out);
        print_wrapped(out, c->text, 0, false);
    }
    fprintf(out, "\noptions:\n");
    for (size_t i = 0; i < CMD_OPTIONS_MAX && c->options[i].name; i++)
        print_option(out, &c->options[i]);
    for (size_t i = 0; i < ARRAY_LEN(global_options); i++)
        print_option(out, &global_options[i]);
}

/* The length of the first word, which commands of a group share; 0: the command is one word. */
static size_t group_len(const struct cmd_command *c)
{
    size_t len = strcspn(c->name, " ");
    return c->name[len] ? len : 0;
}

static bool is_in_group(const struct cmd_command *c, const char *group)
{
    size_t len = group_len(c);
    return len && strlen(group) == len && strncmp(c->name, group, len) == 0;
}

static bool is_same_group(const struct cmd_command *a, const struct cmd_command *b)
{
    return group_len(a) == group_len(b) && strncmp(a->name, b->name, group_len(a)) == 0;
}

static void print_command_line(FILE *out, const struct cmd_command *c)
{
    char left[64];
    snprintf(left, sizeof(left), "%s%s%s", c->name, *c->arguments ? " " : "", c->arguments);
    fprintf(out, "  %-30s %s\n", left, c->summary);
}

static void print_help(FILE *out, const char *program, const struct cmd_command *commands, size_t count)
{
    fprintf(out, "usage: %s COMMAND [arguments] [options]\n\ncommands:\n", program);
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && !is_same_group(&commands[i], &commands[i - 1]))
            fputc('\n', out);
        print_command_line(out, &commands[i]);
    }
    fprintf(out, "\noptions of every command:\n");
    for (size_t i = 0; i < ARRAY_LEN(global_options); i++)
        print_option(out, &global_options[i]);
    fprintf(out,
            "\n`%s help COMMAND` tells more about a command.\n"
            "To begin: `%s cluster up /tmp/fb` starts a cluster on this machine.\n",
            program, program);
}

/* False: there is no such group. */
static bool print_group(FILE *out, const char *program, const struct cmd_command *commands, size_t count,
                        const char *group)
{
    bool found = false;
    for (size_t i = 0; i < count; i++) {
        if (!is_in_group(&commands[i], group))
            continue;
        if (!found)
            fprintf(out, "usage: %s %s COMMAND\n\ncommands:\n", program, group);
        found = true;
        print_command_line(out, &commands[i]);
    }
    return found;
}

static void print_man_text(const char *text)
{
    for (const char *at = text; *at; at++) {
        if (*at == '-' || *at == '\\')
            putchar('\\');
        putchar(*at);
        if (*at == '\n' && at[1] == ' ') { /* an example, or a row of a list */
            printf(".PD 0\n.IP \"\" 4\n.PD\n");
            at += strspn(at + 1, " ");
        }
        if (*at == '\n' && at[1] == '.')
            printf("\\&");
    }
    putchar('\n');
}

static void print_man_option(const struct cmd_option *o)
{
    printf(".TP\n.B \\-\\-%s%s%s\n", o->name, o->argument ? " " : "", o->argument ? o->argument : "");
    print_man_text(o->help);
}

static void print_man(const char *program, const struct cmd_command *commands, size_t count)
{
    printf(
        ".TH FASTBLOCK 1\n.SH NAME\n%s \\- command line of the fastblock block store\n.SH SYNOPSIS\n.B %s\n"
        "COMMAND [arguments] [options]\n.SH COMMANDS\n",
        program, program);
    for (size_t i = 0; i < count; i++) {
        printf(".SS %s %s %s\n", program, commands[i].name, commands[i].arguments);
        print_man_text(commands[i].summary);
        if (commands[i].text) {
            printf(".PP\n");
            print_man_text(commands[i].text);
        }
        for (size_t o = 0; o < CMD_OPTIONS_MAX && commands[i].options[o].name; o++)
            print_man_option(&commands[i].options[o]);
    }
    printf(".SH OPTIONS OF EVERY COMMAND\n");
    for (size_t i = 0; i < ARRAY_LEN(global_options); i++)
        print_man_option(&global_options[i]);
    printf(".SH EXIT STATUS\n0: done. 1: the operation failed. 2: wrong usage.\n.SH SEE ALSO\n"
           ".BR fastblock\\-nbd (1), fastblock\\-osd (8), fastblock\\-mon (8)\n");
}

/* "osd ls" among "osd tree" and others, which all stand together. */
static bool is_first_of_group(const struct cmd_command *commands, size_t at)
{
    return at == 0 || !group_len(&commands[at]) || !is_same_group(&commands[at], &commands[at - 1]);
}

/* "health detail": there is a command "health", too. */
static bool is_word_of_before(const struct cmd_command *commands, size_t at)
{
    size_t len = group_len(&commands[at]);

    for (size_t i = 0; i < at && len; i++)
        if (strlen(commands[i].name) == len && !strncmp(commands[i].name, commands[at].name, len))
            return true;
    return false;
}

static void print_completion(const char *program, const struct cmd_command *commands, size_t count)
{
    printf("# bash completion for %s\n_%s() {\n    local current=\"${COMP_WORDS[COMP_CWORD]}\" words files=\n"
           "    case \"$COMP_CWORD:${COMP_WORDS[1]} ${COMP_WORDS[2]}\" in\n    1:*) words=\"",
           program, program);
    for (size_t i = 0; i < count; i++)
        if (is_first_of_group(commands, i) && !is_word_of_before(commands, i))
            printf("%.*s ", (int)strcspn(commands[i].name, " "), commands[i].name);
    printf("\";;\n");
    for (size_t i = 0; i < count; i++) {
        size_t len = group_len(&commands[i]);
        if (!len || !is_first_of_group(commands, i))
            continue;
        printf("    2:%.*s\\ *) words=\"", (int)len, commands[i].name);
        for (size_t j = i; j < count && is_same_group(&commands[j], &commands[i]); j++)
            printf("%s ", commands[j].name + len + 1);
        printf("\";;\n");
    }
    for (size_t n = 0; n < 2 * count; n++) { /* those of two words first */
        size_t i = n % count, len = strcspn(commands[i].name, " ");
        if ((n < count) != !!group_len(&commands[i]))
            continue;
        printf("    *:%.*s\\ %s) files=1 words=\"--mon --json --help", (int)len, commands[i].name,
               commands[i].name[len] ? commands[i].name + len + 1 : "*");
        for (size_t o = 0; o < CMD_OPTIONS_MAX && commands[i].options[o].name; o++)
            printf(" --%s", commands[i].options[o].name);
        printf("\";;\n");
    }
    printf("    esac\n    COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
           "    [ -z \"$files\" ] || COMPREPLY+=($(compgen -f -- \"$current\"))\n}\ncomplete -F _%s %s\n",
           program, program);
}

/* One of two words goes before one that is the first of them. */
static const struct cmd_command *find_command(const struct cmd_command *commands, size_t count, int argc,
                                              char **argv, int *ret_words)
{
    const struct cmd_command *found = NULL;

    for (size_t i = 0; i < count; i++) {
        const char *name = commands[i].name;
        size_t len = strcspn(name, " ");
        if (argc < 2 || strlen(argv[1]) != len || strncmp(argv[1], name, len) != 0)
            continue;
        if (!name[len]) {
            *ret_words = 1;
            found = &commands[i];
        } else if (argc >= 3 && strcmp(argv[2], name + len + 1) == 0) {
            *ret_words = 2;
            return &commands[i];
        }
    }
    return found;
}

/* The option `text` names (without "--", up to "="), in the command's table or the global one; -1: unknown.
 */
static int find_option(const struct cmd_option *options, size_t count, const char *text)
{
    size_t len = strcspn(text, "=");
    for (size_t i = 0; i < count && options[i].name; i++)
        if (strlen(options[i].name) == len && strncmp(options[i].name, text, len) == 0)
            return (int)i;
    return -1;
}

static int count_arguments(const char *arguments, int *ret_required)
{
    int count = 0;
    *ret_required = 0;
    while (*arguments) {
        count++;
        if (*arguments != '[')
            ++*ret_required;
        arguments += strcspn(arguments, " ");
        arguments += strspn(arguments, " ");
    }
    return count;
}

static int parse_option(struct cmd_args *args, int argc, char **argv, int *at, bool *ret_help)
{
    const char *text = argv[*at] + 2;
    const char *equals = strchr(text, '=');
    const struct cmd_option *option;
    const char **value = NULL;
    int number = find_option(args->command->options, CMD_OPTIONS_MAX, text);

    if (number >= 0) {
        option = &args->command->options[number];
        value = &args->values[number];
    } else {
        number = find_option(global_options, ARRAY_LEN(global_options), text);
        if (number < 0)
            return cmd_usage("%s: unknown option '%s'; see `fastblock %s --help`", args->command->name,
                             argv[*at], args->command->name);
        option = &global_options[number];
    }
    const char *given = "";
    if (option->argument) {
        if (equals)
            given = equals + 1;
        else if (*at + 1 < argc)
            given = argv[++*at];
        else
            return cmd_usage("--%s needs a value (%s)", option->name, option->argument);
    } else if (equals) {
        return cmd_usage("--%s takes no value", option->name);
    }
    if (value)
        *value = given;
    else if (strcmp(option->name, "mon") == 0)
        args->mon = given;
    else if (strcmp(option->name, "json") == 0)
        args->json = true;
    else
        *ret_help = true;
    return CMD_OK;
}

static int parse(struct cmd_args *args, int argc, char **argv, int first, bool *ret_help)
{
    int required, most = count_arguments(args->command->arguments, &required), given = 0;
    bool options_end = false;

    for (int i = first; i < argc; i++) {
        if (!options_end && strcmp(argv[i], "--") == 0) {
            options_end = true;
        } else if (!options_end && strcmp(argv[i], "-h") == 0) {
            *ret_help = true;
        } else if (!options_end && argv[i][0] == '-' && argv[i][1] == '-') {
            int error = parse_option(args, argc, argv, &i, ret_help);
            if (error)
                return error;
        } else if (!options_end && argv[i][0] == '-' && argv[i][1]) {
            return cmd_usage("unknown option '%s'", argv[i]);
        } else if (given == most) {
            return cmd_usage("%s: too many arguments at '%s'; see `fastblock %s --help`", args->command->name,
                             argv[i], args->command->name);
        } else {
            args->positional[given++] = argv[i];
        }
    }
    if (!*ret_help && given < required)
        return cmd_usage("%s needs %s; see `fastblock %s --help`", args->command->name,
                         args->command->arguments, args->command->name);
    return CMD_OK;
}

static int unknown_command(const char *program, const struct cmd_command *commands, size_t count, int argc,
                           char **argv)
{
    bool group = false;
    for (size_t i = 0; i < count; i++)
        group = group || is_in_group(&commands[i], argv[1]);
    if (group && argc > 2)
        cmd_usage("unknown command '%s %s'", argv[1], argv[2]);
    if (group)
        print_group(stderr, program, commands, count, argv[1]);
    else if (argv[1][0] == '-')
        cmd_usage("%s: options come after the command; `%s --help` lists the commands", argv[1], program);
    else
        cmd_usage("unknown command '%s'; `%s --help` lists them", argv[1], program);
    return CMD_USAGE;
}

/* Help about the command or group that argv[1] and argv[2] name. */
static int help_of(const char *program, const struct cmd_command *commands, size_t count, int argc,
                   char **argv)
{
    int words;
    const struct cmd_command *command = find_command(commands, count, argc, argv, &words);
    if (command) {
        print_command_help(stdout, program, command);
        return CMD_OK;
    }
    if (argc == 2 && print_group(stdout, program, commands, count, argv[1]))
        return CMD_OK;
    return unknown_command(program, commands, count, argc, argv);
}

int cmd_main(const char *program, const struct cmd_command *commands, size_t count, int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr, program, commands, count);
        return CMD_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        if (argc > 2)
            return help_of(program, commands, count, argc - 1, argv + 1);
        print_help(stdout, program, commands, count);
        return CMD_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("%s %s\n", program, FASTBLOCK_VERSION);
        return CMD_OK;
    }
    if (strcmp(argv[1], "man") == 0) {
        print_man(program, commands, count);
        return CMD_OK;
    }
    if (strcmp(argv[1], "completion") == 0) {
        print_completion(program, commands, count);
        return CMD_OK;
    }

    int words = 0;
    struct cmd_args args = {.program = argv[0]};
    args.command = find_command(commands, count, argc, argv, &words);
    if (!args.command && argc > 2 && strcmp(argv[2], "--help") == 0)
        return help_of(program, commands, count, 2, argv);
    if (!args.command)
        return unknown_command(program, commands, count, argc, argv);
    bool help = false;
    int error = parse(&args, argc, argv, 1 + words, &help);
    if (error)
        return error;
    if (help) {
        print_command_help(stdout, program, args.command);
        return CMD_OK;
    }
    error = args.command->run(&args);
    /* What was flushed before, and failed, is not there any more to fail again. */
    bool said = fflush(stdout) == 0 && !ferror(stdout);
    if (!said && error == CMD_OK)
        return cmd_fail("cannot write to standard output");
    return error;
}

const char *cmd_option(const struct cmd_args *args, const char *name)
{
    int number = find_option(args->command->options, CMD_OPTIONS_MAX, name);
    ASSERT(number >= 0);
    return args->values[number];
}

bool cmd_option_number(const struct cmd_args *args, const char *name, uint64_t standard, uint64_t min,
                       uint64_t max, uint64_t *ret)
{
    const char *text = cmd_option(args, name);
    uint64_t value = standard;
    if (text && (text_parse_u64(text, &value) || value < min || value > max)) {
        cmd_usage("--%s %s: not a number from %llu to %llu", name, text, (unsigned long long)min,
                  (unsigned long long)max);
        return false;
    }
    *ret = value;
    return true;
}

bool cmd_option_size(const struct cmd_args *args, const char *name, uint64_t standard, uint64_t *ret)
{
    const char *text = cmd_option(args, name);
    uint64_t value = standard;
    if (text && text_parse_size(text, &value)) {
        cmd_usage("--%s %s: not a size: whole bytes, or a whole number with K, M, G, T or P, such as 512M",
                  name, text);
        return false;
    }
    *ret = value;
    return true;
}
