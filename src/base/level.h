/* SPDX-License-Identifier: Apache-2.0
 *
 * Levels: what a program knows of what others do, as a number that is raised when an older version of a
 * program would misread what a newer one does. Monitors are upgraded first, so a monitor refuses OSDs of a
 * level that it does not know; and what only a certain level understands is ordered when all OSDs have it,
 * from when on OSDs below it are refused.
 */
#ifndef BASE_LEVEL_H
#define BASE_LEVEL_H

#define LEVEL       1u /* of this version */
#define LEVEL_SPLIT 1u /* PGs are split */

#endif
